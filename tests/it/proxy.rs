//! A TCP proxy whose connections can be cut: bytes are kept back, as by a network that drops packets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::envtest::pause;

/// A proxy on a port of its own.
pub(crate) struct Proxy {
    listener: TcpListener,
    pub(crate) port: u16,
    is_cut: Arc<AtomicBool>,
}

// === impl Proxy ===

impl Proxy {
    /// Binds a port. Connections wait until they are forwarded.
    pub(crate) fn bind() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Proxy { listener, port, is_cut: Arc::default() }
    }

    /// Forwards connections to this port from now on.
    pub(crate) fn forward(&self, port: u16) {
        let (listener, is_cut) = (self.listener.try_clone().unwrap(), self.is_cut.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to, is_cut) = (from.try_clone().unwrap(), to.try_clone().unwrap(), is_cut.clone());
                    std::thread::spawn(move || copy(from, to, &is_cut));
                }
            }
        });
    }

    /// Keeps all bytes back, or not any more.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        if is_cut.load(Ordering::SeqCst) {
            pause(50);
            continue;
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                while is_cut.load(Ordering::SeqCst) {
                    pause(50);
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    drop(to.shutdown(Shutdown::Both));
    drop(from.shutdown(Shutdown::Both));
}
