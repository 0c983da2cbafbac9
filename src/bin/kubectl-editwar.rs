//! `kubectl editwar`, the kubectl plugin. When it is called as `kubectl_complete-editwar`, through a link, it prints
//! completions for kubectl.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut words = std::env::args().peekable();
    let is_completer = words.peek().is_some_and(|name| name.ends_with("kubectl_complete-editwar"));
    if is_completer {
        editwar::cli::plugin::complete(&words.skip(1).collect::<Vec<_>>())
    } else {
        editwar::cli::plugin::run()
    }
}
