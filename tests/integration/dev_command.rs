//! `tollgate dev`: up by one command, found again by the next, and nothing left behind.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::fixture::{Process, Processes};

/// How long the start and the end may take on a busy machine.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A directory that goes with the test, and that the stores' own user can enter.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let dir = folder.path().join("dev");
    (folder, dir)
}

/// Starts `tollgate dev` and waits until it says that it is up.
fn start(processes: &Processes, dir: &Path) -> Process {
    let dir = dir.to_str().unwrap();
    let mut command = Processes::tollgate(&["dev", "--dir", dir, "--calls", "20"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = processes.start(&mut command);
    let mut output = BufReader::new(process.child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Ctrl-C stops") {
        line.clear();
        if output.read_line(&mut line).unwrap() == 0 {
            let mut errors = String::new();
            process.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("tollgate dev ended: {errors}");
        }
    }
    // What it says at the end has to go somewhere.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    process
}

fn tollgate(arguments: &[&str]) -> serde_json::Value {
    let output = Processes::tollgate(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {errors}"))
}

/// Used units of `meter` of `tenant`, as the sidecar tells.
fn used(endpoint: &str, tenant: &str, meter: &str) -> i64 {
    let usage = tollgate(&["usage", tenant, meter, "--json", "--endpoint", endpoint]);
    usage["meters"][0]["used"].as_i64().unwrap()
}

/// Every metric that a busy sidecar and worker have says what it tells.
fn assert_metrics_are_described(config: &str) {
    let settings = tollgate(&["config", "--json", "--config", config]);
    for setting in ["http.listen", "worker_http.listen"] {
        let found = settings.as_array().unwrap().iter().find(|s| s["setting"] == setting);
        let mut stream = TcpStream::connect(found.unwrap()["value"].as_str().unwrap()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE tollgate_"));
        let names: Vec<_> = names.map(|line| line.split(' ').next().unwrap()).collect();
        assert!(names.len() >= 4, "{setting}: {text}");
        for name in names {
            assert!(text.contains(&format!("# HELP tollgate_{name} ")), "tollgate_{name}");
        }
    }
}

/// The command lines of all processes that were started for `dir`.
fn processes_of(dir: &Path) -> Vec<String> {
    ids_and_lines(dir).into_iter().map(|(_, line)| line).collect()
}

fn ids_and_lines(dir: &Path) -> Vec<(i32, String)> {
    let dir = dir.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = entries.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some((id, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    lines.filter(|(_, line)| line.contains(dir)).collect()
}

/// Kills, as `kill -9` does, the process of `dir` whose command line begins with `program`.
fn kill_program(dir: &Path, program: &str) {
    let found = ids_and_lines(dir).into_iter().find(|(_, line)| {
        line.split(' ').next().unwrap().rsplit('/').next().unwrap().starts_with(program)
    });
    let (id, _) = found.unwrap_or_else(|| panic!("{program}: {:?}", processes_of(dir)));
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(id).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}

fn wait_until_gone(dir: &Path) {
    let started = Instant::now();
    while let Some(left) = processes_of(dir).first() {
        assert!(started.elapsed() < WAIT_MAX, "left behind: {left}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A port that is found free may be taken by another test before it is used.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn a_second_start_finds_the_data_and_each_stop_leaves_no_process() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, dir) = place();
    let endpoint = format!("unix://{}", dir.join("tollgate.sock").display());
    let processes = Processes::default();

    let first = start(&processes, &dir);
    let config = dir.join("tollgate.toml");
    let config = config.to_str().unwrap();
    let tenants = tollgate(&["tenant", "list", "--search", "demo-", "--json", "--config", config]);
    assert_eq!(tenants.as_array().unwrap().len(), 6, "{tenants}");
    assert!(used(&endpoint, "demo-llm", "tokens") > 10_000, "recorded calls were replayed");
    let consume =
        ["check", "demo-free", "queries", "30", "--mode", "consume", "--endpoint", &endpoint];
    assert_eq!(tollgate(&[&consume[..], &["--json"]].concat())["allowed"], true);
    let too_much = Processes::tollgate(&["check", "demo-free", "queries", "71"])
        .args(["--endpoint", &endpoint])
        .output()
        .unwrap();
    assert_eq!(too_much.status.code(), Some(3), "{too_much:?}");
    assert_metrics_are_described(config);
    first.stop();
    assert_eq!(processes_of(&dir), [] as [String; 0]);

    let second = start(&processes, &dir);
    assert_eq!(used(&endpoint, "demo-free", "queries"), 30);
    second.stop();
    assert_eq!(processes_of(&dir), [] as [String; 0]);
}

#[test]
fn what_was_started_ends_when_tollgate_dev_is_killed() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, dir) = place();
    let processes = Processes::default();
    let killed = start(&processes, &dir);
    assert!(processes_of(&dir).len() > 10, "postgres, redis, sidecar, worker");
    killed.kill();
    wait_until_gone(&dir);
}

#[test]
fn a_store_that_dies_is_told_with_how_it_ended_and_everything_else_stops() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_folder, dir) = place();
    let processes = Processes::default();
    for (program, name) in [("redis-server", "redis"), ("postgres", "postgres")] {
        let mut dev = start(&processes, &dir);
        kill_program(&dir, program);
        let mut told = String::new();
        dev.child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(dev.child.wait().unwrap().code(), Some(1), "{told}");
        let ended = format!("{name} has ended by itself (killed by signal 9)");
        assert!(told.contains(&ended) && told.contains(&format!("{name}.log")), "{told}");
        wait_until_gone(&dir);
    }
}

#[test]
fn only_one_may_use_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("dev");
    fs::create_dir_all(&dir).unwrap();
    let held = fs::File::create(dir.join("LOCK")).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["dev", "--dir", dir.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("another `tollgate dev`") && told.contains("--dir"), "{told}");
}

#[test]
fn a_directory_that_is_too_long_for_a_socket_is_refused_by_its_flag() {
    let dir = std::env::temp_dir().join("d".repeat(100));
    let output = Processes::tollgate(&["dev", "--dir", dir.to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("--dir") && told.contains("at most 93 bytes"), "{told}");
    assert!(!dir.exists());
}
