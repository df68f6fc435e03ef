//! An archive that is sent to the store of a server.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::{ArchiveView, Control};
use crate::cli::Failure;

/// How much of a file is sent at a time.
const CHUNK: usize = 256 << 10;

/// What an archive is read from.
pub(in crate::cli) type Content = Box<dyn AsyncRead + Unpin + Send + Sync>;

/// Opens a file, or stdin for `-`. Returns the size of a file.
pub(in crate::cli) async fn open(file: &Path) -> Result<(Content, Option<u64>), Failure> {
    if file == Path::new("-") {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let wrong = |error: io::Error| Failure::usage(format!("{}: {error}", file.display()));
    let content = tokio::fs::File::open(file).await.map_err(wrong)?;
    let about = content.metadata().await.map_err(wrong)?;
    Ok((Box::new(content), about.is_file().then_some(about.len())))
}

impl Control {
    /// Stores an archive in a server's store; none on a database, which reads the file itself.
    pub(in crate::cli) async fn upload_archive(
        &self,
        file: &Path,
        on_bytes: impl Fn(u64) + Send + Sync + Unpin + 'static,
    ) -> Result<Option<ArchiveView>, Failure> {
        let Self::Server(client) = self else { return Ok(None) };
        let (content, size) = open(file).await?;
        let sending = Sending { content, size, sent: 0, buffer: vec![0; CHUNK], on_bytes };
        client.upload(&["archives"], reqwest::Body::wrap(sending)).await.map(Some)
    }
}

/// The body of a request that is read from a file.
struct Sending<F> {
    content: Content,
    size: Option<u64>,
    sent: u64,
    buffer: Vec<u8>,
    on_bytes: F,
}

impl<F: Fn(u64) + Unpin> Body for Sending<F> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let mut buffer = ReadBuf::new(&mut this.buffer);
        ready!(Pin::new(&mut this.content).poll_read(context, &mut buffer))?;
        let chunk = Bytes::copy_from_slice(buffer.filled());
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        this.sent += chunk.len() as u64;
        (this.on_bytes)(this.sent);
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.size.map(|size| size.saturating_sub(self.sent));
        left.map(SizeHint::with_exact).unwrap_or_default()
    }
}
