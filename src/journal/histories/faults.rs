//! One change of the disk fails, whichever it is; those after it work again.

use std::io::ErrorKind;

use super::{
    judging::judge_moment,
    model::{Deed, Model},
    plan::{Life, Step},
    playing,
};
use crate::{
    domain::usage::Durability::{Memory, Sync, Written},
    journal::faulty::{Death, FaultyDisk, Operation},
};

/// A disk on which a run was killed, with what is known of it.
fn after_a_killed_run() -> (FaultyDisk, Model) {
    let disk = FaultyDisk::new(7);
    let big = |level| vec![(level, 1500), (level, 1500), (Sync, 10)];
    let steps = vec![Step::Send(big(Sync)), Step::Send(big(Written)), Step::Send(big(Memory))];
    let played = playing::play(&disk, 1, &Life::of(steps, false), (&Model::default(), None));
    let (moments, noted) = played.unwrap();
    let last = moments.len() - 1;
    let model = Model::default().after(&noted, last).died(Death::Process);
    (moments[last].after(Death::Process, 7), model)
}

/// Takes up what was left, and does all that a run can do.
fn a_full_life() -> Life {
    let small = |level| vec![(level, 10), (level, 30)];
    let steps = vec![
        Step::FlushLeft(4),
        Step::Send(small(Sync)),
        Step::DeleteLeft,
        Step::Send(vec![(Sync, 3000), (Sync, 3000), (Sync, 3000)]),
        Step::Flush(4),
        Step::Send(small(Written)),
        Step::Send(small(Memory)),
        Step::Flush(100),
        Step::Send(small(Sync)),
    ];
    Life::of(steps, true)
}

#[test]
fn whichever_change_fails_nothing_acknowledged_is_lost_and_nothing_refused_is_kept() {
    let (disk, model) = after_a_killed_run();
    playing::play(&disk, 2, &a_full_life(), (&model, None)).unwrap();
    let changes = disk.changes();
    let (mut tried, mut ended) = (0, 0);
    for number in 0..changes {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull] {
            let (disk, model) = after_a_killed_run();
            disk.fail_once_after(number, kind);
            let (noted, disk) = match playing::play(&disk, 2, &a_full_life(), (&model, None)) {
                Ok((mut moments, mut noted)) => {
                    if disk.failed_once() == Some(Operation::Sync) {
                        noted.push((0, Deed::SyncFailed));
                    }
                    (noted, moments.remove(moments.len() - 1).after(Death::Process, number))
                }
                // It did not begin, and says so.
                Err(_) => {
                    ended += 1;
                    (vec![], disk.restart(Death::Process))
                }
            };
            let model = model.after(&noted, usize::MAX);
            for death in [Death::Process, Death::HostLosingAll] {
                let judged = judge_moment(&disk.restart(death), &model.died(death), number);
                if let Err(problem) = judged {
                    panic!("change {number} of {changes} ({kind:?}), {death:?}: {problem}");
                }
            }
            tried += 1;
        }
    }
    eprintln!("{tried} failures of single changes; {ended} kept the journal from being opened");
    assert!(ended < tried / 4);
}
