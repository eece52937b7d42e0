//! Metrics in Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

use super::{KeyspaceMetrics, LevelMetrics, Metrics};

/// A figure of each of several: its name, what it is, and where it stands.
type Figure<M> = (&'static str, &'static str, fn(&M) -> u64);

impl Metrics {
    /// All of it in the text format that [Prometheus](https://prometheus.io/docs/instrumenting/exposition_formats/) reads:
    /// a family for each figure, named `strandline_…`; those that only grow end in `_total`. Keyspaces are told apart by the
    /// label `keyspace`, levels by `level`; of live snapshots there is how many, and how old the oldest one is.
    ///
    /// ```
    /// # let db = strandline::Options::new().fs(strandline::MemFs::new()).open("db")?;
    /// db.keyspace("accounts")?.put("alice", "100")?;
    /// let text = db.metrics().to_prometheus();
    /// assert!(text.contains("\n# TYPE strandline_commits_total counter\nstrandline_commits_total 1\n"));
    /// assert!(text.contains("strandline_retained_from{keyspace=\"accounts\"} 0\n"));
    /// # Ok::<(), strandline::Error>(())
    /// ```
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = Text::default();
        self.tell_whole(&mut text);
        self.tell_keyspaces(&mut text);
        text.0
    }

    fn tell_whole(&self, text: &mut Text) {
        text.gauge("table_files", "Table files of all keyspaces.", self.table_files);
        text.gauge("table_bytes", "Their bytes.", self.table_bytes);
        text.gauge("log_bytes", "Bytes of the log that replay would read.", self.log_bytes);
        text.gauge("log_segments", "Log segments.", self.log_segments);
        text.counter("log_syncs_total", "Syncs of the log.", self.log_syncs);
        let active = self.active_memtable_bytes;
        text.gauge("active_memtable_bytes", "Bytes in memtables that take writes.", active);
        let sealed = self.sealed_memtable_bytes;
        text.gauge("sealed_memtable_bytes", "Bytes in memtables that wait to be flushed.", sealed);
        text.gauge("block_cache_bytes", "Bytes that the block cache holds.", self.block_cache_bytes);
        text.counter("block_cache_hits_total", "Blocks found in the cache.", self.block_cache_hits);
        text.counter("block_cache_misses_total", "Blocks that had to be read.", self.block_cache_misses);
        text.counter("table_opens_total", "How often a table's file was opened.", self.table_opens);
        text.counter("filter_hits_total", "Lookups that a filter ended.", self.filter_hits);
        let misses = self.filter_false_positives;
        text.counter("filter_false_positives_total", "Lookups that a filter let through in vain.", misses);
        text.counter("commits_total", "Commits made visible.", self.commits);
        text.counter("committed_bytes_total", "Bytes of their operations.", self.committed_bytes);
        text.counter("flushes_total", "Flushes done.", self.flushes);
        text.counter("flushed_bytes_total", "Bytes of the tables that flushes wrote.", self.flushed_bytes);
        text.counter("compactions_total", "Compactions done, moves not counted.", self.compactions);
        text.counter("trivial_moves_total", "Tables that went down a level as they are.", self.trivial_moves);
        text.counter("compacted_read_bytes_total", "Bytes that compactions read.", self.compacted_bytes_read);
        text.counter("compacted_written_bytes_total", "Bytes that compactions wrote.", self.compacted_bytes_written);
        text.counter("stalls_total", "Commits that were slowed down.", self.stalls);
        text.counter("stalled_seconds_total", "For how long, together.", self.stalled.as_secs_f64());
        text.gauge("write_amplification", "Bytes written to tables for each byte committed.", self.write_amplification);
        text.gauge("space_amplification", "Bytes in tables for each in their last levels.", self.space_amplification);
        text.gauge("last_timestamp", "The highest commit that is visible.", self.last_timestamp);
        text.gauge("closed_timestamp", "No commit at or below it is accepted.", self.closed_timestamp);
        text.gauge("prepared_transactions", "Prepared, and neither committed nor aborted.", self.prepared);
        text.gauge("snapshots", "Live snapshots.", self.snapshots.len());
        let oldest = self.snapshots.first().map_or(0.0, |oldest| oldest.age.as_secs_f64());
        text.gauge("oldest_snapshot_age_seconds", "The age of the oldest live snapshot; 0 without any.", oldest);
    }

    fn tell_keyspaces(&self, text: &mut Text) {
        let levels: [Figure<LevelMetrics>; 4] = [
            ("level_files", "Table files of a level.", |level| level.files),
            ("level_bytes", "Their bytes.", |level| level.bytes),
            ("level_keys", "Keys in them, each as often as a file has it.", |level| level.keys),
            ("level_versions", "Versions in them.", |level| level.versions),
        ];
        for (name, help, figure) in levels {
            text.family(name, "gauge", help);
            for keyspace in &self.keyspaces {
                for (level, metrics) in keyspace.levels.iter().enumerate() {
                    let labels = [("keyspace", keyspace.name.as_str()), ("level", &level.to_string())];
                    text.sample(name, &labels, figure(metrics));
                }
            }
        }
        let each: [Figure<KeyspaceMetrics>; 2] = [
            ("retained_from", "The floor of a keyspace.", |keyspace| keyspace.retained_from),
            ("freeable_bytes", "Bytes of tables that its present floor would free.", |keyspace| {
                keyspace.freeable_bytes
            }),
        ];
        for (name, help, figure) in each {
            text.family(name, "gauge", help);
            for keyspace in &self.keyspaces {
                text.sample(name, &[("keyspace", &keyspace.name)], figure(keyspace));
            }
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP strandline_{name} {help}"));
        self.line(format_args!("# TYPE strandline_{name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        if labels.is_empty() {
            return self.line(format_args!("strandline_{name} {value}"));
        }
        let labels: Vec<_> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        self.line(format_args!("strandline_{name}{{{}}} {value}", labels.join(",")));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes all.
        let _ = writeln!(self.0, "{line}");
    }
}

/// As the value of a label.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::SnapshotMetrics;
    use super::*;

    #[test]
    fn every_line_is_what_prometheus_reads() {
        let level = LevelMetrics { files: 1, bytes: 2, keys: 3, versions: 4 };
        let name = "quo\"te\\back\nline".to_owned();
        let metrics = Metrics {
            keyspaces: vec![
                KeyspaceMetrics { name, retained_from: 7, levels: vec![level; 2], freeable_bytes: 9 },
                KeyspaceMetrics { name: "plain".to_owned(), ..KeyspaceMetrics::default() },
            ],
            commits: 5,
            stalled: Duration::from_millis(1500),
            write_amplification: 2.5,
            snapshots: vec![SnapshotMetrics { timestamp: 3, age: Duration::from_secs(60) }],
            ..Metrics::default()
        };
        let text = metrics.to_prometheus();
        let mut families = BTreeSet::new();
        let mut current = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(families.insert(name), "{name} comes twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                current = name;
            } else if !line.starts_with("# HELP ") {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                assert_eq!(name, current);
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
                value.parse::<f64>().unwrap();
            }
        }
        for line in [
            "strandline_commits_total 5",
            "strandline_stalled_seconds_total 1.5",
            "strandline_write_amplification 2.5",
            "strandline_snapshots 1",
            "strandline_oldest_snapshot_age_seconds 60",
            "strandline_level_versions{keyspace=\"quo\\\"te\\\\back\\nline\",level=\"1\"} 4",
            "strandline_retained_from{keyspace=\"plain\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
