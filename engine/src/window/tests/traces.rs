//! Whole series against the naive model: days of a fleet's readings with the gaps, repeated
//! times and coarse steps that real ones have, and recorded traces where a folder is named.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};

use super::model::Model;
use super::*;

/// Windows for readings that come every one to five minutes.
const SECONDS: [u64; 3] = [600, 3_600, 21_600];

/// Readings of one model: it computes everything anew, so a long series is played in pieces.
const PIECE: usize = 512;

/// Series that are played of one column; more of a fleet of a thousand would show no more.
const SERIES_MAX: usize = 100;

/// A reading of the windows is compared after so many samples.
const COMPARED_EVERY: usize = 24;

/// How the name of a packed trace ends.
const PACKED: &str = ".csv.gz";

/// Time in seconds, and the value.
type Series = Vec<(i64, f64)>;

fn play(series: &[(i64, f64)]) {
    for piece in series.chunks(PIECE) {
        let mut windows = Windows::new(&plan(&SECONDS), LATENESS);
        let slot = windows.add_node();
        let mut model = Model::new(&SECONDS, LATENESS);
        let mut now = Timestamp(0);
        for (count, (second, value)) in piece.iter().enumerate() {
            let sample = Sample {
                time: Timestamp(second * 1_000),
                value: *value,
                interval: None,
            };
            now = now.max(sample.time);
            windows.push(slot, CPU, sample, now);
            model.push(sample, now);
            if count % COMPARED_EVERY == 0 {
                check(&windows, &model, slot, &SECONDS, now);
            }
        }
        check(&windows, &model, slot, &SECONDS, now);
    }
}

/// A day of readings by a step, with a daily rhythm, bursts, gaps and repeated times.
fn day() -> impl Strategy<Value = Series> {
    let one = (0_u8..20, -0.2..0.2_f64);
    let steps = prop::sample::select(vec![10_i64, 60, 300]);
    (steps, prop::collection::vec(one, 64..400)).prop_map(|(step, noise)| {
        let mut second = 1_661_140_279_i64;
        let mut series = Vec::new();
        for (kind, noise) in noise {
            second += match kind {
                0 => 0,
                1 => step * 13,
                _ => step,
            };
            let rhythm = 0.4 + 0.3 * (second as f64 / 86_400.0 * std::f64::consts::TAU).sin();
            series.push((second, (rhythm + noise).clamp(0.0, 1.0)));
        }
        series
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_day_of_readings_is_read_as_the_model_reads_it(series in day()) {
        play(&series);
    }
}

/// The series of a CSV file, by node and column: those columns that hold a value or a share.
fn series_of(text: &str) -> BTreeMap<(String, String), Series> {
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let named = |name: &str| head.iter().position(|column| *column == name);
    // Two pods may be on one node: each is a series of its own.
    let node = named("pod").or_else(|| named("node"));
    let mut all = BTreeMap::<_, Series>::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let second = match (named("timestamp_s"), named("timestamp")) {
            (Some(column), _) => cells[column].parse().unwrap(),
            (None, Some(column)) => {
                let time: jiff::civil::DateTime = cells[column].parse().unwrap();
                let time = time.to_zoned(jiff::tz::TimeZone::UTC).unwrap();
                time.timestamp().as_second()
            }
            (None, None) => return all,
        };
        for (column, name) in head.iter().enumerate() {
            if (*name == "value" || name.contains("_percent"))
                && let Ok(value) = cells[column].parse()
            {
                let node = node.map_or_else(String::new, |node| cells[node].to_owned());
                let key = (node, (*name).to_owned());
                all.entry(key).or_default().push((second, value));
            }
        }
    }
    all
}

fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if [".csv", PACKED]
            .iter()
            .any(|ending| path.to_string_lossy().ends_with(ending))
        {
            found.push(path);
        }
    }
}

/// The text of a file of that name, unpacked if need be.
fn text_of(name: &str, bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut plain: Box<dyn Read> = if name.ends_with(PACKED) {
        Box::new(MultiGzDecoder::new(bytes))
    } else {
        Box::new(bytes)
    };
    plain.read_to_string(&mut text).unwrap();
    text
}

/// Four lines, and the same packed.
fn own() -> Vec<(String, String)> {
    let lines = "timestamp,value\n2014-02-14 14:30:00,0.132\n2014-02-14 14:35:00,0.134\n\
                 2014-02-14 14:35:00,0.2\n2014-02-14 15:35:00,0.1\n";
    let mut packed = Vec::new();
    GzEncoder::new(lines.as_bytes(), Compression::fast())
        .read_to_end(&mut packed)
        .unwrap();
    let files = [("own.csv", lines.as_bytes()), ("own.csv.gz", &packed)];
    let texts = files.map(|(name, bytes)| (name.to_owned(), text_of(name, bytes)));
    assert_eq!(texts[0].1, texts[1].1);
    texts.into()
}

/// `RHIZOME_TRACES` names a folder with CSV files, packed (`.csv.gz`) or not: `timestamp_s` or
/// `timestamp`, perhaps `pod` or `node`, and `value` or columns named `…_percent…`.
#[test]
#[expect(clippy::print_stdout, reason = "tells what was played")]
fn recorded_traces_are_read_as_the_model_reads_them() {
    let mut texts = own();
    if let Some(folder) = std::env::var_os("RHIZOME_TRACES") {
        let mut found = Vec::new();
        files_below(Path::new(&folder), &mut found);
        found.sort();
        assert!(!found.is_empty(), "no trace below {folder:?}");
        texts.extend(found.into_iter().map(|path| {
            let name = path.display().to_string();
            let text = text_of(&name, &std::fs::read(&path).unwrap());
            (name, text)
        }));
    }
    for (name, text) in texts {
        let all = series_of(&text);
        let every = all.len().div_ceil(SERIES_MAX).max(1);
        let mut samples = 0;
        for series in all.values().step_by(every) {
            play(series);
            samples += series.len();
        }
        println!("{name}: {samples} samples of {} series", all.len());
    }
}
