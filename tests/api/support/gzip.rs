//! Compressed bodies that stand for much larger ones.

/// Builds a gzip stream of this many spaces from codes that repeat the previous byte (RFC 1951, 3.2.6).
pub fn gzip_of_spaces(count: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.push(1, 1); // BFINAL: the last block
    bits.push(1, 2); // BTYPE: fixed codes
    bits.literal(b' ');
    let mut left = count - 1;
    while left >= 258 {
        bits.code(0b1100_0101, 8); // 285: a length of 258
        bits.code(0, 5); // a distance of 1
        left -= 258;
    }
    (0..left).for_each(|_| bits.literal(b' '));
    bits.code(0, 7); // 256: the end of the block
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    gzip.extend(bits.bytes());
    gzip.extend(crc32_of_spaces(count).to_le_bytes());
    gzip.extend(u32::try_from(count).expect("it is small").to_le_bytes());
    gzip
}

#[derive(Default)]
struct Bits(Vec<bool>);

impl Bits {
    /// Appends the lowest bit first.
    fn push(&mut self, value: u32, length: u32) {
        self.0.extend((0..length).map(|bit| value >> bit & 1 == 1));
    }

    /// Appends the highest bit first, as Huffman codes require.
    fn code(&mut self, value: u32, length: u32) {
        self.0.extend((0..length).rev().map(|bit| value >> bit & 1 == 1));
    }

    fn literal(&mut self, byte: u8) {
        self.code(0x30 + u32::from(byte), 8);
    }

    fn bytes(&self) -> Vec<u8> {
        let byte =
            |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        self.0.chunks(8).map(byte).collect()
    }
}

/// Returns the checksum of this many spaces.
fn crc32_of_spaces(count: usize) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    let table: Vec<u32> = (0..256).map(|byte| (0..8).fold(byte, |crc, _| step(crc))).collect();
    let index = |crc: u32| usize::from(crc.to_le_bytes()[0] ^ b' ');
    !(0..count).fold(!0, |crc, _| table[index(crc)] ^ crc >> 8)
}
