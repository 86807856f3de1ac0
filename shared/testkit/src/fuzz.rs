//! Random inputs against the clock: good ones, good ones spoiled in many ways, and noise.
//!
//! `FUZZ_SECONDS` is how long a test goes on (`make fuzz`); without it, it is over in a moment. What
//! is taken is spoiled again, so that long runs get further. A failure names the `FUZZ_SEED` that
//! leads to it again.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Of one input, in bytes: more than a frame may have.
const LONGEST: usize = 70 * 1024;
/// Inputs that were taken and are kept to be spoiled, and the longest of them in bytes.
const KEPT: usize = 500;
const KEPT_LONGEST: usize = 4 * 1024;
/// By how much a run may raise what the process ever held, in KiB. Only asked of long runs, which
/// have the process for themselves.
const MEMORY: u64 = 32 * 1024;
const MOMENT: Duration = Duration::from_millis(200);

/// Tries inputs until the time is over. `words` are put into them here and there; `check` panics on
/// what must not be, and says whether the input was taken.
///
/// # Panics
/// When `check` does, with the input; when nothing good was taken or nothing refused, for then
/// nothing was tried; when memory grew.
pub fn fuzz(good: &[&[u8]], words: &[&str], mut check: impl FnMut(&[u8]) -> bool) {
    let seconds = std::env::var("FUZZ_SECONDS").ok().map(|text| {
        let seconds = text.parse().expect("FUZZ_SECONDS is a number");
        Duration::from_secs(seconds)
    });
    let seed = std::env::var("FUZZ_SEED").map_or_else(
        |_| rand::random(),
        |text| text.parse().expect("FUZZ_SEED is a number"),
    );
    let mut rng = StdRng::seed_from_u64(seed);
    let mut corpus: Vec<Vec<u8>> = good.iter().map(|input| input.to_vec()).collect();
    let (mut taken, mut refused) = (0_u64, 0_u64);
    let mut tried = |input: &[u8]| {
        let result = catch_unwind(AssertUnwindSafe(|| check(input))).unwrap_or_else(|panic| {
            let text = input.escape_ascii();
            eprintln!("FUZZ_SEED={seed}: {} bytes: {text}", input.len());
            resume_unwind(panic)
        });
        *(if result { &mut taken } else { &mut refused }) += 1;
        result
    };
    for input in good {
        assert!(tried(input), "not taken: {}", input.escape_ascii());
    }
    let before = most_memory();
    let end = Instant::now() + seconds.unwrap_or(MOMENT);
    while Instant::now() < end {
        let input = input(&mut rng, &corpus, words);
        if tried(&input) && input.len() <= KEPT_LONGEST {
            if corpus.len() < good.len() + KEPT {
                corpus.push(input);
            } else {
                let place = rng.random_range(good.len()..corpus.len());
                corpus[place] = input;
            }
        }
    }
    assert!(refused > 0, "everything was taken");
    if let (Some(_), Some(before), Some(after)) = (seconds, before, most_memory()) {
        println!("{taken} taken, {refused} refused, {} KiB", after - before);
        assert!(
            after - before < MEMORY,
            "memory grew from {before} to {after} KiB"
        );
    }
}

fn input(rng: &mut StdRng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = match rng.random_range(0..10) {
        0 => noise(rng, 300),
        1 => {
            let count = rng.random_range(0..40);
            let words: Vec<&str> = (0..count)
                .filter_map(|_| words.choose(rng).copied())
                .collect();
            words.concat().into_bytes()
        }
        _ => corpus.choose(rng).expect("there are good inputs").clone(),
    };
    for _ in 0..rng.random_range(1..6) {
        spoil(&mut input, rng, corpus, words);
    }
    input.truncate(LONGEST);
    input
}

fn noise(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill(&mut bytes[..]);
    bytes
}

/// One change.
fn spoil(input: &mut Vec<u8>, rng: &mut StdRng, corpus: &[Vec<u8>], words: &[&str]) {
    let at = rng.random_range(0..=input.len());
    let to = rng.random_range(at..=input.len().min(at + 40));
    match rng.random_range(0..9) {
        0 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
        1 if at < input.len() => input[at] = rng.random(),
        2 => input.truncate(at),
        3 => drop(input.drain(at..to)),
        4 => {
            let word = words.choose(rng).copied().unwrap_or_default();
            input.splice(at..at, word.bytes());
        }
        5 => {
            let word = words.choose(rng).copied().unwrap_or_default();
            input.splice(at..to, word.bytes());
        }
        6 => {
            let piece = input[at..to].to_vec();
            // Now and then as much as there may be at all.
            let most = if rng.random_ratio(1, 50) {
                LONGEST
            } else {
                4 * 40
            };
            let times = rng.random_range(0..=most / piece.len().max(1));
            input.splice(at..at, piece.repeat(times));
        }
        7 => {
            let other = corpus.choose(rng).expect("there are good inputs");
            let from = rng.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        _ => {
            let noise = noise(rng, 8);
            input.splice(at..at, noise);
        }
    }
}

/// The most this process ever held, in KiB, where that is known.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
