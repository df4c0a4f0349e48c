//! What the fuzz targets share: the way every file takes through leakscope, and how recordings are changed so that the
//! change gets past their checksums.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leakscope::commands::analyze::Analyst;
use leakscope::ui::{Ui, Verbosity};

/// Judges `input` as `leakscope analyze` does, and renders what came of it. Whatever is in it, that is a result or an
/// error; libFuzzer itself holds the memory and the time.
pub fn analyze(input: &[u8]) {
    let mut ui = Ui::new(Verbosity::Quiet, Some(false));
    let mut analyst = Analyst::new(Duration::from_secs(5));
    let judged =
        match pin!(analyst.input(input, "input", &mut ui)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(judged) => judged,
            Poll::Pending => panic!("a file is never waited for"),
        };
    if let Err(error) = judged {
        let text = leakscope::fault::render(&error);
        assert!(text.contains("input") && text.contains("fix: "), "no object or no remedy: {text}");
    }
    let analysis = analyst.finish();
    analysis.to_json().expect("every analysis can be written as JSON");
    let _ = analysis.to_text();
}

/// The length of the magic bytes and the version.
const HEAD: usize = 14;
/// What a block of a fuzzed recording is inflated to, at most.
const MAX_HELD: usize = 1 << 20;

/// What the blocks of a recording hold; `None` where it is none.
fn taken_apart(file: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = file.get(HEAD..)?;
    let mut blocks = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some(packed) = after.get(4..).and_then(|after| after.get(..u32::from_le_bytes(*length) as usize))
        else {
            // A recording may be cut off.
            break;
        };
        blocks.push(miniz_oxide::inflate::decompress_to_vec_with_limit(packed, MAX_HELD).ok()?);
        rest = &after[4 + packed.len()..];
    }
    (!blocks.is_empty()).then_some(blocks)
}

fn put_together(head: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
    let mut file = head.to_vec();
    for held in blocks {
        let packed = miniz_oxide::deflate::compress_to_vec(held, 1);
        let length = u32::try_from(packed.len()).expect("a block is small").to_le_bytes();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&length);
        hasher.update(&packed);
        file.extend(length);
        file.extend(hasher.finalize().to_le_bytes());
        file.extend(packed);
    }
    file
}

/// Changes a recording in `data[..size]`: mostly what one of its blocks holds, with the checksum made right again; now and
/// then the order of the blocks, or the bytes of the file. The new size.
pub fn mutate_recording(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let plain = |data: &mut [u8]| libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    let Some(mut blocks) = taken_apart(&data[..size]).filter(|_| seed % 16 != 0) else { return plain(data) };
    let index = (seed / 16) as usize % blocks.len();
    match seed % 16 {
        1 => blocks.swap(0, index),
        2 => drop(blocks.remove(index)),
        3 => blocks.push(blocks[index].clone()),
        _ => {
            let held = &mut blocks[index];
            let before = held.len();
            held.resize(before + 64, 0);
            let after = libfuzzer_sys::fuzzer_mutate(held, before, before + 64);
            held.truncate(after);
        }
    }
    let file = put_together(&data[..HEAD], &blocks);
    if file.len() > max_size {
        return plain(data);
    }
    data[..file.len()].copy_from_slice(&file);
    file.len()
}
