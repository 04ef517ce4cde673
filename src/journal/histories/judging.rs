//! Judges every moment of a history.

use super::{mistake::Mistake, model::Model, plan::History, playing};
use crate::journal::faulty::{Death, FaultyDisk, Moment};

/// Every so many moments, the recovery itself is judged at each of its moments, too.
const DEEP_EVERY: usize = 40;

/// Plays `history` and judges all of its moments; what was found wrong, if anything.
pub fn judge(history: &History, mistake: Option<Mistake>) -> Result<usize, String> {
    let _planted = mistake.map(Mistake::plant);
    let mut disk = FaultyDisk::new(history.seed);
    let mut model = Model::default();
    let mut judged = 0;
    for (number, life) in (1..).zip(&history.lives) {
        if let Some(mistake) = mistake {
            disk.lie(mistake.lies());
        }
        let (moments, noted) = playing::play(&disk, number as u128, life, (&model, mistake))?;
        let model_at = |at: usize| model.after(&noted, at);
        for (at, moment) in moments.iter().enumerate() {
            // Which part of what was not synced a host keeps: any, or none, turn by turn.
            let of_host = [Death::Host, Death::HostLosingAll][at % 2];
            for death in [Death::Process, of_host] {
                let seed = history.seed.wrapping_add(at as u64);
                let (disk, model) = (moment.after(death, seed), model_at(at).died(death));
                let context = |problem| format!("life {number}, moment {at}, {death:?}: {problem}");
                if at % DEEP_EVERY == number % DEEP_EVERY && death == Death::Process {
                    judge_recovery(&disk, &model, seed).map_err(context)?;
                } else {
                    judge_moment(&disk, &model, seed).map_err(context)?;
                }
                judged += 1;
            }
        }
        let at = life.dies_at % moments.len();
        model = model_at(at).died(life.death);
        disk = moments[at].after(life.death, history.seed);
    }
    Ok(judged)
}

/// Recovers, and once more after another death.
pub fn judge_moment(disk: &FaultyDisk, model: &Model, seed: u64) -> Result<(), String> {
    let found = playing::recover_all(disk, 1000, model)?;
    model.check(&found)?;
    let death = [Death::HostLosingAll, Death::Process][usize::from(seed.is_multiple_of(4))];
    let again = playing::recover_all(&disk.restart(death), 2000, model)?;
    model.check_again(&found, &again).map_err(|problem| format!("again, {death:?}: {problem}"))
}

/// As [`judge_moment`], and with deaths at each moment of the recovery.
fn judge_recovery(disk: &FaultyDisk, model: &Model, seed: u64) -> Result<(), String> {
    disk.record();
    let recovered = judge_moment(disk, model, seed);
    let mut moments: Vec<Moment> = disk.moments();
    recovered?;
    // The present is judged already.
    moments.pop();
    for (at, moment) in moments.iter().enumerate() {
        for death in [Death::Process, Death::HostLosingAll] {
            let found = playing::recover_all(&moment.after(death, seed), 3000, model)?;
            let model = model.died(death);
            model
                .check(&found)
                .map_err(|problem| format!("recovery, {at}, {death:?}: {problem}"))?;
        }
    }
    Ok(())
}
