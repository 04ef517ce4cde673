//! A Prometheus of this program's own that scrapes one address every second.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use super::page::get;
use crate::server::free_address;

/// How long it may take until it answers.
const START_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// Its running process; it ends when this is dropped.
pub struct Prometheus {
    process: Child,
    address: SocketAddr,
}

/// What it says about its scrapes of a time.
#[derive(Clone, Copy, Debug)]
pub struct Scrapes {
    pub count: f64,
    /// Those that failed.
    pub failed: f64,
    pub seconds_mean: f64,
    pub seconds_max: f64,
    /// Series of one page, at least and at most.
    pub series_min: f64,
    pub series_max: f64,
}

impl Prometheus {
    /// Starts it, with its data in `directory`, and waits until it has scraped once.
    pub fn start(program: &Path, directory: &Path, scraped: SocketAddr) -> anyhow::Result<Self> {
        let config = directory.join("prometheus.yml");
        fs::write(
            &config,
            format!(
                "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
                 scrape_configs:\n\
                 - job_name: tollgate\n  static_configs: [{{ targets: ['{scraped}'] }}]\n"
            ),
        )?;
        let address = free_address()?;
        let log = fs::File::create(directory.join("prometheus.log"))?;
        let process = Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("prometheus").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!("cannot start {}: install Prometheus (apt-get install prometheus), or name it by --prometheus", program.display())
            })?;
        let prometheus = Self { process, address };
        let started = Instant::now();
        while !prometheus.value("up").is_ok_and(|value| value == Some(1.0)) {
            if started.elapsed() > START_MAX {
                let log = fs::read_to_string(directory.join("prometheus.log"));
                bail!("Prometheus does not scrape: {}", log.unwrap_or_default());
            }
            std::thread::sleep(POLL);
        }
        Ok(prometheus)
    }

    /// What it scraped in the last so many seconds.
    pub fn scrapes(&self, seconds: u64) -> anyhow::Result<Scrapes> {
        let of = |function: &str, series: &str| {
            let query = format!("{function}_over_time({series}[{seconds}s])");
            self.value(&query)?.with_context(|| format!("{query} has no value"))
        };
        let count = of("count", "up")?;
        Ok(Scrapes {
            count,
            failed: count - of("sum", "up")?,
            seconds_mean: of("avg", "scrape_duration_seconds")?,
            seconds_max: of("max", "scrape_duration_seconds")?,
            series_min: of("min", "scrape_samples_scraped")?,
            series_max: of("max", "scrape_samples_scraped")?,
        })
    }

    /// The value of a query that has one or none.
    fn value(&self, query: &str) -> anyhow::Result<Option<f64>> {
        // Nothing else of a query of ours needs it.
        let query = query.replace('[', "%5B").replace(']', "%5D");
        let answer = get(self.address, &format!("/api/v1/query?query={query}"))?;
        let answer: Value = serde_json::from_str(&answer)?;
        let value = &answer["data"]["result"][0]["value"][1];
        value.as_str().map(|value| Ok(value.parse()?)).transpose()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone after this.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where promtool is wrong: the sidecar's counters are whole numbers, so that seconds of CPU are a gauge,
/// under the name that every process has them by.
const KNOWN: &str =
    "process_cpu_seconds_total non-counter metrics should not have \"_total\" suffix";

/// What `promtool check metrics`, beside `prometheus`, has to say about a page; nothing when all is as
/// it should be.
pub fn problems(prometheus: &Path, page: &str) -> anyhow::Result<String> {
    let promtool: PathBuf = prometheus.with_file_name("promtool");
    let mut child = Command::new(&promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", promtool.display()))?;
    // Dropped at once, which ends what it reads.
    child.stdin.take().map_or(Ok(()), |mut input| input.write_all(page.as_bytes()))?;
    let output = child.wait_with_output()?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    if told.is_empty() && !output.status.success() {
        bail!("{} ended with {}", promtool.display(), output.status);
    }
    Ok(told.lines().filter(|line| *line != KNOWN).collect::<Vec<_>>().join("\n"))
}
