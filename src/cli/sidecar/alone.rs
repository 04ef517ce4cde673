//! A sidecar by itself: plans and tenants from a file, counters in this process, the journal and
//! its store on disk.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::parts::{Backing, Base, build};
use crate::{
    domain::catalog::Catalog,
    enforcement::{
        background::embedded::{EmbeddedFlusher, take_in_leftovers},
        directory::{FileSource, Source},
        embedded::EmbeddedTotals,
        engine::Engine,
        floors::Floors,
        leasing::Leasing,
    },
    journal::{
        Journal,
        disk::Disk,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
    leases::message::Epoch,
    lifecycle::tasks::TaskGroup,
    store::{LocalCounters, counters::Counters},
};

/// What is left to do at the end.
pub struct Alone {
    journal: Journal,
    flusher_stop: CancellationToken,
    flusher_done: CancellationToken,
}

impl Alone {
    /// Takes the rest of the journal in. The next start deletes the run's directory.
    pub async fn finish(self) {
        self.journal.close().await;
        self.flusher_stop.cancel();
        self.flusher_done.cancelled().await;
    }
}

/// Reads the catalog, and the tenants from their own file if there is one.
pub fn read(catalog_file: &Path, tenants_file: Option<&Path>) -> anyhow::Result<Catalog> {
    let mut catalog = parse(catalog_file, Catalog::parse)?;
    if let Some(file) = tenants_file {
        parse(file, |name, text| catalog.add_tenants(name, text))?;
    }
    if catalog.tenants().next().is_none() {
        bail!(
            "{} names no tenants; add a `tenants:` section or give --tenants FILE",
            catalog_file.display()
        );
    }
    Ok(catalog)
}

fn parse<T>(
    file: &Path,
    parse: impl FnOnce(&str, &str) -> Result<T, Vec<crate::domain::catalog::error::CatalogError>>,
) -> anyhow::Result<T> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    parse(&file.display().to_string(), &text).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", lines.join("\n"))
    })
}

/// Starts the sidecar.
pub async fn start(
    base: Base,
    catalog: &Catalog,
    tasks: &TaskGroup,
) -> anyhow::Result<(Arc<Engine>, Arc<Leasing>, Alone)> {
    let (journal, clock) = (base.journal.clone(), base.clock.clone());
    let data_dir = base.settings.journal.data_dir.clone();
    let store = tokio::task::spawn_blocking(move || {
        let mut store = EmbeddedStore::open(&EmbeddedConfig::default(), &data_dir, Disk)?;
        take_in_leftovers(&journal, &mut store, &clock)?;
        Ok::<_, crate::journal::error::JournalError>(store)
    })
    .await
    .context("opening the embedded store")??;
    let totals = EmbeddedTotals::new(store.totals().map(|(key, total)| (key, total.used())));
    let store = Arc::new(Mutex::new(store));
    // The counters live and end with this process: there is one epoch, and nobody to wait for.
    let (_, epoch) = watch::channel(Some(Epoch { number: 1, recovered: true }));
    let backing = Backing {
        source: Source::File(Arc::new(FileSource::of(catalog))),
        counters: Counters::Local(LocalCounters::new()),
        floors: Floors::Embedded { totals, store: store.clone() },
        epoch,
        journals_keys: false,
    };
    let (engine, leasing, _) = build(&base, backing, tasks);
    let flusher_stop = CancellationToken::new();
    let flusher_done = CancellationToken::new();
    let flusher = EmbeddedFlusher::new(engine.clone(), store);
    let (stop, done) = (flusher_stop.clone(), flusher_done.clone());
    tasks.run("embedded_flusher", move |group_stop| async move {
        let done = done.drop_guard();
        let result = flusher.run(stop).await;
        drop(done);
        if result.is_ok() {
            group_stop.cancelled().await;
        }
        result
    });
    let alone = Alone { journal: base.journal, flusher_stop, flusher_done };
    Ok((engine, leasing, alone))
}
