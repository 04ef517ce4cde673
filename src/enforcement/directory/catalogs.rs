//! The catalogs in force: what holds for all versions of their plans at once.

use std::{ops::Deref, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use serde_json::Value;

use crate::{
    domain::{catalog::compiled_catalog::CompiledCatalog, invalid::Invalid},
    ledger::catalogs::StoredCatalog,
};

/// One catalog as it is in force; the terms of all its tenants share it, so that a new version
/// reaches all of them at once.
#[derive(Debug)]
pub struct CatalogInForce {
    content: ArcSwap<Content>,
}

#[derive(Debug)]
struct Content {
    version: u32,
    compiled: Arc<CompiledCatalog>,
    definition: Value,
}

/// See [`CatalogInForce::look`].
pub struct LookedAt(Guard<Arc<Content>>);

impl Deref for LookedAt {
    type Target = CompiledCatalog;

    fn deref(&self) -> &CompiledCatalog {
        &self.0.compiled
    }
}

impl Content {
    fn read(version: u32, definition: Value) -> Result<Self, Invalid> {
        let compiled = Arc::new(CompiledCatalog::from_json(&definition)?);
        Ok(Self { version, compiled, definition })
    }
}

impl CatalogInForce {
    /// Reads a version as it was stored.
    pub fn read(version: u32, definition: Value) -> Result<Self, Invalid> {
        let content = Content::read(version, definition)?;
        Ok(Self { content: ArcSwap::from_pointee(content) })
    }

    /// The version in force.
    pub fn version(&self) -> u32 {
        self.content.load().version
    }

    /// The catalog, ready for use.
    pub fn compiled(&self) -> Arc<CompiledCatalog> {
        self.content.load().compiled.clone()
    }

    /// The catalog, ready for use, for a moment: nobody else counts as its holder.
    pub fn look(&self) -> LookedAt {
        LookedAt(self.content.load())
    }

    /// The version in force and how it was stored.
    pub fn stored(&self) -> (u32, Value) {
        let content = self.content.load();
        (content.version, content.definition.clone())
    }

    /// Puts another version in force. One that cannot be read changes nothing.
    pub fn replace(&self, stored: StoredCatalog) -> Result<(), Invalid> {
        let content = Content::read(stored.version, stored.definition)?;
        self.content.store(Arc::new(content));
        Ok(())
    }
}
