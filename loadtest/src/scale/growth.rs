//! How throughput goes down as tenants become many.

use std::time::Duration;

use super::{
    Scale,
    finding::{Finding, grouped},
    populated::Populated,
};
use crate::{
    calls::{Call, Durability},
    document::median,
    noop::Shape,
    report::Figures,
    run::{Load, measure as load_server},
    scenarios::{
        self,
        alone::{GROWTH_MIN, TENANTS_FEW, TENANTS_MANY},
    },
    server::{BASELINE, Kind, Server},
};

/// How long the sidecar is left alone after all tenants were used: what they began is over then.
const REST: Duration = Duration::from_secs(5);

/// What is loaded, by name.
fn loads(scale: &Scale) -> [(&'static str, Load); 2] {
    let check = scenarios::check(scale.seconds);
    let written = Load { call: Call::Consume, durability: Durability::Written, ..check.clone() };
    [("CheckQuota CHECK, TCP", check), ("CheckQuota CONSUME, written, TCP", written)]
}

/// What was measured of one load, in all rounds with as many tenants.
#[derive(Default)]
struct Runs {
    requests_per_second: Vec<f64>,
    cpu_us: Vec<f64>,
}

impl Runs {
    fn add(&mut self, figures: &Figures) {
        self.requests_per_second.push(figures.requests_per_second);
        self.cpu_us.extend(figures.server_cpu_us_per_request);
    }
}

/// Few tenants, many, and few again, so that what else happens on the machine meanwhile counts for
/// both; and the same of a server that does nothing, which shows the client's own share.
pub fn measure(scale: &Scale) -> anyhow::Result<Vec<Finding>> {
    let [mut few, mut many] = [(); 2].map(|()| [(); 2].map(|()| Runs::default()));
    sidecar(scale, TENANTS_FEW, &mut few)?;
    let tenants = scale.count(TENANTS_MANY);
    sidecar(scale, tenants, &mut many)?;
    sidecar(scale, TENANTS_FEW, &mut few)?;
    let [mut noop_few, mut noop_many] = [(); 2].map(|()| [(); 2].map(|()| Runs::default()));
    nothing(scale, TENANTS_FEW, &mut noop_few)?;
    nothing(scale, tenants, &mut noop_many)?;
    nothing(scale, TENANTS_FEW, &mut noop_few)?;
    let counts = format!("{} tenants beside {}", grouped(tenants), grouped(TENANTS_FEW));
    let mut findings = vec![];
    for (place, (name, _)) in loads(scale).iter().enumerate() {
        let (ratio, found) = compared(&few[place], &many[place]);
        let aim = format!("throughput, × that of few, ≥ {GROWTH_MIN}");
        let is_met = ratio >= GROWTH_MIN;
        let finding = Finding::new(format!("{name}: {counts}"), found);
        findings.push(finding.aimed(aim, is_met));
        let (_, found) = compared(&noop_few[place], &noop_many[place]);
        findings.push(Finding::new(format!("… {BASELINE}"), found));
    }
    Ok(findings)
}

/// Throughput with many tenants as a multiple of that with few, and all figures.
fn compared(few: &Runs, many: &Runs) -> (f64, String) {
    let of = |figures: &[f64]| median(figures.to_vec());
    let (before, after) = (of(&few.requests_per_second), of(&many.requests_per_second));
    let (cpu_before, cpu_after) = (of(&few.cpu_us), of(&many.cpu_us));
    let ratio = after / before;
    let found = format!(
        "{ratio:.2} ({before:.0}/s → {after:.0}/s; CPU {cpu_before:.1} → {cpu_after:.1} µs)"
    );
    (ratio, found)
}

fn sidecar(scale: &Scale, tenants: usize, runs: &mut [Runs; 2]) -> anyhow::Result<()> {
    let populated = Populated::start(scale, scale.sidecar.clone(), tenants)?;
    populated.touch_all(&["tokens".to_owned()])?;
    std::thread::sleep(REST);
    rounds(scale, &populated.server, tenants, runs)
}

fn nothing(scale: &Scale, tenants: usize, runs: &mut [Runs; 2]) -> anyhow::Result<()> {
    let files = scale.scratch()?;
    let server = Server::start(&Kind::Noop { shape: Shape::TonicInline }, files.path())?;
    rounds(scale, &server, tenants, runs)
}

fn rounds(
    scale: &Scale,
    server: &Server,
    tenants: usize,
    runs: &mut [Runs; 2],
) -> anyhow::Result<()> {
    for _ in 0..scale.rounds {
        for ((name, load), runs) in loads(scale).into_iter().zip(runs.iter_mut()) {
            let load = Load { tenants, ..load };
            let figures = load_server(name, &server.tcp(), &server.pids(), &load)?;
            if let Some(failure) = &figures.failure {
                anyhow::bail!("{name}: {} failed: {failure}", figures.failed);
            }
            runs.add(&figures);
        }
    }
    Ok(())
}
