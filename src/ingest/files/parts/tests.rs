use std::fs::File;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

/// Bytes that cannot be compressed.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn member(content: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn frame(content: &[u8]) -> Vec<u8> {
    compress_to_vec(content, CompressionLevel::Fastest)
}

/// Returns what is read of a file, the error at its end, and the counted bytes, with this number of threads.
fn read(name: &str, packed: &[u8], threads: usize) -> (Vec<u8>, Option<String>, u64) {
    let path = std::env::temp_dir().join(format!("editwar-parts-{}-{name}", std::process::id()));
    std::fs::write(&path, packed).unwrap();
    let file = PlainFile::new(&File::open(&path).unwrap(), Arc::default()).unwrap().unwrap();
    std::fs::remove_file(&path).unwrap();
    let format = file.format().unwrap().unwrap();
    let (permits, counted) = (Permits::new(threads), Arc::new(AtomicU64::new(0)));
    let permit = permits.take().unwrap();
    let mut reader = PartsReader::begin(file, format, permits, permit, counted.clone());
    let (mut content, mut piece) = (Vec::new(), vec![0; 100_000]);
    let error = loop {
        assert!(reader.parts.len() <= threads, "memory is limited");
        match reader.read(&mut piece) {
            Ok(0) => break None,
            Ok(n) => content.extend_from_slice(&piece[..n]),
            Err(error) => break Some(error.to_string()),
        }
    };
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0, "an end stays one");
    (content, error, counted.load(Ordering::Relaxed))
}

/// Returns what is read of a stream, and the error at its end.
fn read_in_order(packed: &[u8]) -> (Vec<u8>, Option<String>) {
    let mut stream = decompress::open(io::Cursor::new(packed.to_vec()), Arc::default()).unwrap();
    let mut content = Vec::new();
    let error = stream.reader.read_to_end(&mut content).err().map(|error| error.to_string());
    (content, error)
}

/// Lengths from nothing to several parts.
const LENGTHS: [usize; 9] = [700_000, 0, 3, 270_000, 262_144, 1, 900_000, 100_000, 400_000];

#[test]
fn parts_have_the_content_of_the_whole_file() {
    let contents: Vec<Vec<u8>> = LENGTHS.iter().enumerate().map(|(i, len)| noise(*len, i as u64 + 1)).collect();
    let expected = contents.concat();
    let gzip = contents.iter().flat_map(|content| member(content, Compression::fast())).collect::<Vec<_>>();
    let zstd = contents.iter().flat_map(|content| frame(content)).collect::<Vec<_>>();
    for (name, packed) in [("gzip", gzip), ("zstd", zstd)] {
        assert!(read_in_order(&packed) == (expected.clone(), None), "{name}");
        for threads in [1, 2, 5] {
            let (content, error, counted) = read(name, &packed, threads);
            assert_eq!(error, None);
            assert!(content == expected, "{name}, {threads} threads");
            assert_eq!(counted, packed.len() as u64);
        }
    }
}

#[test]
fn what_looks_like_a_member_within_another_one_is_not_taken_for_one() {
    let mut content = noise(3_000_000, 7);
    for at in (0..content.len() - GZIP_HEAD).step_by(1_000) {
        content[at..at + GZIP_HEAD].copy_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }
    // Stored as it is.
    let packed = [member(&content, Compression::none()), member(b"the end", Compression::none())].concat();
    let file = [&content[..], b"the end"].concat();
    for threads in [1, 2, 5] {
        let (found, error, counted) = read("false", &packed, threads);
        assert_eq!((error, counted), (None, packed.len() as u64));
        assert!(found == file, "{threads} threads");
    }
}

#[test]
fn frames_that_decoders_skip_are_skipped() {
    let skipped = |len: u32| [&[0x5a, 0x2a, 0x4d, 0x18][..], &len.to_le_bytes(), &vec![0x28; len as usize]].concat();
    let (a, b) = (noise(500_000, 3), noise(500_000, 4));
    let packed = [skipped(4), frame(&a), skipped(0), skipped(300_000), frame(&b), skipped(9)].concat();
    let expected = [a, b].concat();
    assert!(read_in_order(&packed) == (expected.clone(), None));
    for threads in [1, 2, 5] {
        assert!(read("skipped", &packed, threads) == (expected.clone(), None, packed.len() as u64));
    }
    let cut = &packed[..packed.len() - 1];
    assert!(read_in_order(cut).1.is_some());
    assert!(read("cut-skipped", cut, 2).1.is_some(), "a file that was cut off is not complete");
}

#[test]
fn many_small_parts_are_not_kept_in_memory() {
    // They are decompressed faster than they are read, so that no thread has a permit any more. `read` checks the number of parts.
    let content = vec![b'x'; 4 << 20];
    let parts: Vec<u8> = (0..40)
        .flat_map(|i| [member(&content, Compression::fast()), member(&noise(262_144, i), Compression::fast())])
        .flatten()
        .collect();
    let (found, error, _) = read("many", &parts, 3);
    assert_eq!((found.len(), error), (40 * ((4 << 20) + 262_144), None));
}

#[test]
fn a_damaged_part_is_reported_after_everything_before_it() {
    let contents: Vec<Vec<u8>> = (1..6).map(|i| noise(400_000, i)).collect();
    let members: Vec<Vec<u8>> = contents.iter().map(|content| member(content, Compression::fast())).collect();
    let frames: Vec<Vec<u8>> = contents.iter().map(|content| frame(content)).collect();
    for (name, parts) in [("gzip", members), ("zstd", frames)] {
        let packed = parts.concat();
        let third = parts[0].len() + parts[1].len();
        let mut damaged = packed.clone();
        // The header of the third part.
        damaged[third..third + 4].fill(0xff);
        for (what, packed) in [("damaged", &damaged[..]), ("cut", &packed[..third + 200_000])] {
            let (expected, expected_error) = read_in_order(packed);
            assert!(expected_error.is_some() && expected.len() >= 800_000, "{name} {what}");
            for threads in [1, 2, 5] {
                let (content, error, _) = read(&format!("{what}-{name}"), packed, threads);
                assert_eq!(error, expected_error, "{name} {what}, {threads} threads");
                assert!(content == expected, "{name} {what}, {threads} threads: {} bytes", content.len());
            }
        }
    }
}

#[test]
fn whatever_is_damaged_parts_say_the_same_as_the_whole_file() {
    let contents: Vec<Vec<u8>> = (1..5).map(|i| noise(280_000, i)).collect();
    let gzip: Vec<u8> = contents.iter().flat_map(|content| member(content, Compression::fast())).collect();
    let zstd: Vec<u8> = contents.iter().flat_map(|content| frame(content)).collect();
    for (name, whole) in [("gzip", gzip), ("zstd", zstd)] {
        for seed in 1..13 {
            let mut packed = whole.clone();
            let random = noise(8, 1_000 + seed);
            let at = usize::from_le_bytes(random.try_into().unwrap()) % (packed.len() - 8) + 4;
            match seed % 3 {
                0 => packed.truncate(at),
                1 => packed[at] ^= 0x55,
                // A piece is missing.
                _ => drop(packed.drain(at..packed.len().min(at + 5))),
            }
            let (content, error, _) = read(&format!("random-{name}"), &packed, 3);
            let (expected, expected_error) = read_in_order(&packed);
            assert_eq!(error, expected_error, "{name}, case {seed}, damaged at {at}");
            // How much a decoder returns before an error depends on the size of the buffer.
            let (short, long) = if content.len() < expected.len() { (content, expected) } else { (expected, content) };
            let differs_by = long.len() - short.len();
            assert!(long.starts_with(&short), "{name}, case {seed}, damaged at {at}");
            assert!(
                differs_by == 0 || (error.is_some() && differs_by <= PIECE_BYTES),
                "{name}, case {seed}: {differs_by}"
            );
        }
    }
}
