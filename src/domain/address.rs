//! The network address under which a client is counted and queued.

use std::net::{IpAddr, Ipv6Addr};

/// The prefix of an IPv6 address that identifies a client: a household or a server gets a /64 and may use every address in
/// it.
const IPV6_CLIENT_BITS: u32 = 64;

/// Returns the address under which a client is counted: an IPv6 client's whole network.
#[must_use]
pub fn counted_as(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mask = u128::MAX << (u128::BITS - IPV6_CLIENT_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_client_is_counted_by_its_network() {
        for (address, expected) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:3:3:4:5:6", "2001:db8:1:3::"),
            ("198.51.100.77", "198.51.100.77"),
        ] {
            assert_eq!(counted_as(address.parse().unwrap()).to_string(), expected);
        }
    }
}
