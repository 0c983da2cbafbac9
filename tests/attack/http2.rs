//! A minimal HTTP/2 client for requests that no client library would send.

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

/// Opens a connection with an initial stream window of `window` bytes. With 0, the server cannot send any body.
pub(crate) fn open(from: Ipv4Addr, to: SocketAddr, window: u32) -> io::Result<TcpStream> {
    let mut stream = connect(from, to)?;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let setting = [&[0, 4], window.to_be_bytes().as_slice()].concat();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat())?;
    // The connection's own window is large, so that only the stream windows matter.
    if window > 0 {
        stream.write_all(&frame(WINDOW_UPDATE, 0, 0, &0x3fff_0000_u32.to_be_bytes()))?;
    }
    Ok(stream)
}

/// Sends GET requests on the given streams; 0 is the first one.
pub(crate) fn get(stream: &mut TcpStream, path: &str, streams: impl Iterator<Item = u32>) -> io::Result<()> {
    // :method GET and :scheme http as indexed fields, :path and :authority as literals without indexing.
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

/// Sends POST requests with `headers` empty headers each and without bodies. Each empty header needs only one byte on
/// the wire.
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
        // `x` with an empty value: added to the dynamic table once, then referred to by its index.
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
