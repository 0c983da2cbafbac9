//! A log is tailed while it is written, rotated, compressed, truncated and deleted, and while the reader crashes. The input is
//! a sequence of these operations. As long as no operation destroys what was not read, the reader delivers exactly what was
//! written, in order. Otherwise it delivers no line twice and none out of order, reports the gap if the file that it reads is
//! truncated, and goes on with what is written afterwards.
#![no_main]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use editwar::ingest::tail::{Position, Step, Tail};

/// Maximum number of operations of an input. The reader opens at most 64 files ahead, and each operation makes at most one.
const OPERATIONS_MAX: usize = 100;
/// Maximum number of steps until everything is read.
const STEPS_MAX: usize = 10_000;

/// An empty directory for each input.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    parent.join(format!("editwar-fuzz-tail-{}", std::process::id()))
});

/// The writer of a log, and all that it has written.
struct Writer {
    path: PathBuf,
    /// The file that is written, which may have been renamed.
    file: File,
    /// The rest of a line of which the first part is written.
    rest: String,
    lines: usize,
    rotations: usize,
    has_numbers: bool,
    /// Everything that was written, to all files.
    written: Vec<u8>,
    /// The length of `written` when the file was empty.
    start: usize,
    /// Rotated files that are not written any more, with the length of `written` at their end, oldest first. Their names may have
    /// changed since.
    finished: Vec<(PathBuf, usize)>,
    /// The name of the file that is written, if it was renamed.
    renamed: Option<PathBuf>,
}

/// A reader that loses what it has not committed when it crashes.
struct Reader {
    tail: Tail,
    delivered: Vec<u8>,
    committed: usize,
    position: Option<Position>,
    /// Gaps that were reported before crashes.
    gaps: u64,
}

// === impl Writer ===

impl Writer {
    fn new(has_numbers: bool) -> Writer {
        let path = FOLDER.join("audit.log");
        let file = open(&path);
        Writer {
            path,
            file,
            rest: String::new(),
            lines: 0,
            rotations: 0,
            has_numbers,
            written: Vec::new(),
            start: 0,
            finished: Vec::new(),
            renamed: None,
        }
    }

    /// Returns the rest of the last line, or else a new line, with a unique start and a time.
    fn next_line(&mut self, pad: usize) -> String {
        if !self.rest.is_empty() {
            return std::mem::take(&mut self.rest);
        }
        let number = self.lines;
        self.lines += 1;
        let time = format!("2026-11-23T{:02}:{:02}:{:02}.000000Z", number / 3600 % 24, number / 60 % 60, number % 60);
        let pad = "x".repeat(pad);
        format!("{{\"kind\":\"Event\",\"auditID\":\"{number:06}\",\"pad\":\"{pad}\",\"stageTimestamp\":\"{time}\"}}\n")
    }

    fn write(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).expect("there is room");
        self.written.extend(text.as_bytes());
    }

    fn is_renamed(&self) -> bool {
        self.renamed.is_some()
    }

    fn rotated_name(&mut self) -> PathBuf {
        self.rotations += 1;
        let name = |name: String| self.path.with_file_name(name);
        if !self.has_numbers {
            let (seconds, millis) = (self.rotations / 1000, self.rotations % 1000);
            return name(format!("audit-2026-11-23T00-00-{seconds:02}.{millis:03}.log"));
        }
        for number in (1..self.rotations).rev() {
            for end in ["", ".gz"] {
                let (from, to) =
                    (name(format!("audit.log.{number}{end}")), name(format!("audit.log.{}{end}", number + 1)));
                if from.exists() {
                    std::fs::rename(&from, &to).expect("it can be renamed");
                    let renamed = self.finished.iter_mut().map(|(path, _)| path).chain(&mut self.renamed);
                    renamed.filter(|path| **path == from).for_each(|path| *path = to.clone());
                }
            }
        }
        name("audit.log.1".into())
    }

    /// Renames the file. It is still written until `reopen`.
    fn rename(&mut self) {
        if !self.is_renamed() && self.path.exists() {
            let name = self.rotated_name();
            std::fs::rename(&self.path, &name).expect("it can be renamed");
            self.renamed = Some(name);
        }
    }

    fn reopen(&mut self) {
        if let Some(name) = self.renamed.take() {
            self.finished.push((name, self.written.len()));
            self.rest.clear();
        }
        if !self.path.exists() {
            self.file = open(&self.path);
            self.start = self.written.len();
        }
    }

    fn copy_and_truncate(&mut self) {
        if !self.is_renamed() && self.path.exists() {
            let name = self.rotated_name();
            std::fs::copy(&self.path, &name).expect("there is room");
            self.finished.push((name, self.written.len()));
            self.file.set_len(0).expect("it can be truncated");
            self.start = self.written.len();
        }
    }

    /// Compresses the finished file with this index, as lumberjack does.
    fn compress(&mut self, index: usize) {
        let Some((path, _)) = self.finished.get_mut(index) else { return };
        if !path.exists() || path.extension().is_some_and(|end| end == "gz") {
            return;
        }
        let text = std::fs::read(&*path).expect("it is there");
        let packed = PathBuf::from(format!("{}.gz", path.display()));
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&packed).expect("there is room"), flate2::Compression::fast());
        encoder.write_all(&text).expect("there is room");
        encoder.finish().expect("there is room");
        std::fs::remove_file(&*path).expect("it is there");
        *path = packed;
    }
}

// === impl Reader ===

impl Reader {
    fn step(&mut self) -> Step {
        self.tail.step(&mut |lines| self.delivered.extend(lines)).expect("nothing is wrong with the disk")
    }

    fn read_all(&mut self) {
        let steps = (0..STEPS_MAX).take_while(|_| self.step() == Step::More).count();
        assert!(steps < STEPS_MAX, "it does not come to an end");
    }

    fn commit(&mut self) {
        self.committed = self.delivered.len();
        self.position = self.tail.position().cloned();
    }

    fn crash(&mut self) {
        self.gaps += self.tail.gaps();
        self.delivered.truncate(self.committed);
        self.tail = Tail::new(self.tail.path().to_owned(), self.position.clone());
    }

    fn gaps(&self) -> u64 {
        self.gaps + self.tail.gaps()
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).expect("it can be created")
}

/// Returns the number of a line, if it is complete.
fn number_of(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("{\"kind\":\"Event\",\"auditID\":\"")?;
    line.ends_with("Z\"}").then(|| line.get(..6)?.parse().ok())?
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((scheme, operations)) = input.split_first() else { return };
    drop(std::fs::remove_dir_all(&*FOLDER));
    std::fs::create_dir_all(&*FOLDER).expect("it can be created");
    let mut writer = Writer::new(scheme & 1 == 1);
    let tail = Tail::new(writer.path.clone(), None);
    let mut reader = Reader { tail, delivered: Vec::new(), committed: 0, position: None, gaps: 0 };
    // Tailing starts with the file that is there at the first step.
    let line = writer.next_line(0);
    writer.write(&line);
    reader.read_all();
    reader.commit();
    // Whether something was destroyed that was not read, or perhaps not.
    let mut is_lossy = false;
    let mut has_gap = false;
    for operation in operations.chunks_exact(2).take(OPERATIONS_MAX) {
        let size = usize::from(operation[1]);
        match operation[0] % 16 {
            0 | 1 => {
                for _ in 0..size % 8 + 1 {
                    let line = writer.next_line(size);
                    writer.write(&line);
                }
            }
            2 => {
                let line = writer.next_line(size * 20);
                let (part, rest) = line.split_at(size % line.len());
                writer.write(part);
                writer.rest = rest.to_owned();
            }
            3 => writer.rename(),
            4 => {
                writer.rename();
                writer.reopen();
            }
            5 => writer.reopen(),
            6 => {
                // The reader may have opened the file when it was empty: then it cannot tell the new content from the old.
                is_lossy |= reader.committed <= writer.start && reader.committed < writer.written.len();
                writer.copy_and_truncate();
            }
            7 => writer.compress(size),
            8 => drop(reader.step()),
            9 => reader.read_all(),
            10 => reader.commit(),
            11 => reader.crash(),
            12 => {
                reader.read_all();
                reader.commit();
            }
            13 if !writer.is_renamed() => {
                // Truncates it without a copy. The reader finds files again by their times, so the new content has one.
                let is_read_in_part = (writer.start + 1..writer.written.len()).contains(&reader.committed);
                has_gap |= !is_lossy && is_read_in_part;
                is_lossy |= reader.committed < writer.written.len();
                writer.file.set_len(0).expect("it can be truncated");
                writer.start = writer.written.len();
                writer.rest.clear();
                let line = writer.next_line(size);
                writer.write(&line);
            }
            14 => {
                // Deletes a rotated file. Without the file that was read last, only times tell which others were read.
                if let Some((path, end)) = writer.finished.get(size) {
                    is_lossy |= path.exists() && reader.committed <= *end;
                    drop(std::fs::remove_file(path));
                }
            }
            15 => {
                // Deletes the file that is written, and creates another.
                is_lossy |= reader.committed < writer.written.len();
                drop(std::fs::remove_file(writer.renamed.take().as_ref().unwrap_or(&writer.path)));
                writer.rest.clear();
                writer.reopen();
                let line = writer.next_line(size);
                writer.write(&line);
            }
            _ => {}
        }
    }
    if writer.is_renamed() {
        writer.reopen();
    }
    if !writer.rest.is_empty() {
        let rest = writer.next_line(0);
        writer.write(&rest);
    }
    let last = writer.next_line(0);
    writer.write(&last);
    reader.read_all();
    assert!(reader.delivered.ends_with(last.as_bytes()), "what is written at the end is not read");
    if !is_lossy {
        let (delivered, written) = (&reader.delivered, &writer.written);
        let same = delivered.iter().zip(written).take_while(|(a, b)| a == b).count();
        assert!(delivered == written, "{} of {} bytes, different after {same}", delivered.len(), written.len());
    }
    let numbers: Vec<u64> = reader.delivered.split(|b| *b == b'\n').filter_map(number_of).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert!(!has_gap || reader.gaps() > 0, "a gap is not counted");
});
