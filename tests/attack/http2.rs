//! HTTP/2 by hand, for what no client library would do.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use crate::server::connect;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection whose streams may send this many bytes each before we answer; 0 for none at all.
pub(crate) fn open(from: Ipv4Addr, to: SocketAddr, window: u32) -> io::Result<TcpStream> {
    let mut stream = connect(from, to)?;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let setting = [&[0, 4], window.to_be_bytes().as_slice()].concat();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat())?;
    // The connection's own window is large, so that the streams' counts.
    if window > 0 {
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes()))?;
    }
    Ok(stream)
}

/// GET on the next streams; the first is 1.
pub(crate) fn get(stream: &mut TcpStream, path: &str, streams: impl Iterator<Item = u32>) -> io::Result<()> {
    // :method GET, :scheme http, :path and :authority as literals that are not indexed.
    let mut block = vec![0x82, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    for number in streams {
        // END_STREAM and END_HEADERS.
        stream.write_all(&frame(HEADERS, 5, 2 * number + 1, &block))?;
    }
    Ok(())
}

/// Acknowledges the server's settings.
pub(crate) fn acknowledge(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&frame(SETTINGS, 1, 0, &[]))
}

/// POST on the next streams, each with so many empty headers, without their bodies. An empty header is one byte on the way.
pub(crate) fn post_with_headers(
    stream: &mut TcpStream,
    path: &str,
    headers: usize,
    streams: impl Iterator<Item = u32>,
) -> io::Result<()> {
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path.as_bytes());
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    for number in streams {
        let mut block = block.clone();
        // `x` with an empty value: put into the table once, then named by its place there.
        match number {
            0 => block.extend(b"\x40\x01x\x00"),
            _ => block.push(0xbe),
        }
        block.extend(std::iter::repeat_n(0xbe, headers));
        // END_HEADERS.
        stream.write_all(&frame(HEADERS, 4, 2 * number + 1, &block))?;
    }
    Ok(())
}
