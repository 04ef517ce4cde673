//! What every HTTP/2 client says first, read before h2 sees the connection: as long as it has not been
//! said, nothing asks whether the client is still there, and one that says nothing would stay for ever.
//!
//! It is read, not peeked at: of a client that hangs up half-way, the half would be there to be seen
//! for ever, and whoever waited for the rest would never sleep again.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::keep_alive::Heard;

/// The preface.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose client has said the preface, which is read from it again.
#[derive(Debug)]
pub struct Prefaced<I> {
    io: I,
    /// Of the preface, bytes that were read again.
    given: usize,
    /// Of what the client said later.
    heard: Heard,
}

impl<I: AsyncRead + Unpin> Prefaced<I> {
    /// Waits for the preface.
    pub async fn read(mut io: I) -> io::Result<Self> {
        let mut said = [0; HTTP2_PREFACE.len()];
        io.read_exact(&mut said).await?;
        if said != *HTTP2_PREFACE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not HTTP/2"));
        }
        Ok(Self { io, given: 0, heard: Heard::default() })
    }
}

impl<I> Prefaced<I> {
    /// Whether anything is read from the client.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Prefaced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &HTTP2_PREFACE[self.given..];
        if rest.is_empty() {
            let before = into.filled().len();
            let read = Pin::new(&mut self.io).poll_read(cx, into);
            if into.filled().len() > before {
                self.heard.note();
            }
            return read;
        }
        let part = rest.len().min(into.remaining());
        into.put_slice(&rest[..part]);
        self.given += part;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Prefaced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
