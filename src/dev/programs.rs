//! Where the servers' programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};

/// Debian keeps each major version's programs in a folder of its own, outside `PATH`.
const DEBIAN_POSTGRES: &str = "/usr/lib/postgresql";

/// The folder that holds both `postgres` and `initdb`.
pub(super) fn postgres_folder() -> Result<PathBuf> {
    let on_path = search_path().into_iter().find(|folder| has_postgres(folder));
    on_path.or_else(|| newest_debian_postgres(Path::new(DEBIAN_POSTGRES))).ok_or_else(|| {
        anyhow!(
            "found no `postgres` and `initdb` on PATH or under {DEBIAN_POSTGRES}/*/bin; install \
             Debian's package `postgresql` (or run `make setup`)"
        )
    })
}

/// The path of `redis-server`.
pub(super) fn redis_server() -> Result<PathBuf> {
    let found = search_path().into_iter().map(|folder| folder.join("redis-server"));
    found.into_iter().find(|program| program.is_file()).ok_or_else(|| {
        anyhow!(
            "found no `redis-server` on PATH; install Debian's package `redis-server` (or run \
             `make setup`)"
        )
    })
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

fn has_postgres(folder: &Path) -> bool {
    folder.join("postgres").is_file() && folder.join("initdb").is_file()
}

fn newest_debian_postgres(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root).ok()?.filter_map(Result::ok).filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path().join("bin");
        has_postgres(&folder).then_some((version, folder))
    });
    versions.max_by_key(|(version, _)| *version).map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_postgres_that_has_both_programs_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", vec!["postgres", "initdb"]), ("15", vec!["postgres", "initdb"]), ("16", vec![])]
        {
            let folder = root.path().join(version).join("bin");
            fs::create_dir_all(&folder).unwrap();
            for program in programs {
                fs::write(folder.join(program), "").unwrap();
            }
        }
        let found = newest_debian_postgres(root.path()).unwrap();
        assert_eq!(found, root.path().join("15/bin"));
        assert_eq!(newest_debian_postgres(&root.path().join("absent")), None);
    }
}
