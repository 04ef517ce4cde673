//! Alerts in the ledger: once per threshold and window, whoever raises them and how often.

use futures::future::join_all;
use tollgate::ledger::alerts::{AlertChanges, AlertRule, AlertThreshold, NotedAlert};

use super::world::{World, at, event, key, tenant};

const NOW: &str = "2026-03-05T10:21:00Z";

/// 80 % and 100 % of `limit` on the month's tokens of `t1`.
fn rule(limit: Option<u64>, now: &str) -> AlertRule {
    let threshold = |percent: &str| AlertThreshold {
        percent: percent.parse().unwrap(),
        recommended_action: Some(format!("look at {percent}")),
    };
    let thresholds = vec![threshold("80"), threshold("100")];
    let key = key("t1", "tokens");
    AlertRule { cells: vec![key.clone()], key, limit, thresholds, now: at(now) }
}

async fn settle(world: &World, limit: Option<u64>, now: &str) -> (usize, [u64; 3]) {
    let settled = world.ledger.settle_alerts(&[rule(limit, now)]).await.unwrap();
    let AlertChanges { raised, reopened, resolved } = settled.changes;
    (settled.standing[0].len(), [raised, reopened, resolved])
}

async fn noted(world: &World) -> Vec<NotedAlert> {
    world.ledger.alerts_of(&tenant("t1"), false, 10).await.unwrap()
}

#[tokio::test]
async fn an_alert_is_raised_once_resolved_and_reopened_without_being_told_again() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 79)]).await;
    assert_eq!(settle(&world, Some(100), NOW).await, (0, [0, 0, 0]));
    world.flush(run, 1, &[event("t1", 1)]).await;
    assert_eq!(settle(&world, Some(100), NOW).await, (1, [1, 0, 0]));
    assert_eq!(settle(&world, Some(100), "2026-03-05T10:22:00Z").await, (1, [0, 0, 0]));
    world.flush(run, 2, &[event("t1", 20)]).await;
    assert_eq!(settle(&world, Some(100), "2026-03-05T10:23:00Z").await, (2, [1, 0, 0]));

    // The limit rises, and falls again.
    assert_eq!(settle(&world, Some(1_000), "2026-03-05T10:24:00Z").await, (0, [0, 0, 2]));
    let resolved = noted(&world).await;
    assert!(resolved.iter().all(|it| it.resolved_at == Some(at("2026-03-05T10:24:00Z"))));
    assert_eq!(world.ledger.alerts_of(&tenant("t1"), true, 10).await.unwrap(), []);
    assert_eq!(settle(&world, Some(110), "2026-03-05T10:25:00Z").await, (1, [0, 1, 0]));
    assert_eq!(settle(&world, None, "2026-03-05T10:26:00Z").await, (0, [0, 0, 1]));

    let noted = noted(&world).await;
    let first = noted.iter().find(|alert| alert.percent == "80".parse().unwrap()).unwrap();
    assert_eq!((first.limit, first.used), (100, 80));
    assert_eq!(first.raised_at, at(NOW), "as it was first raised");
    assert_eq!(first.recommended_action.as_deref(), Some("look at 80"));
    assert_eq!(noted.len(), 2);
}

#[tokio::test]
async fn many_who_see_it_at_once_raise_it_once() {
    let world = World::new().await;
    let run = world.run().await;
    world.flush(run, 0, &[event("t1", 100)]).await;
    let rules = [rule(Some(100), NOW)];
    let settled = join_all((0..8).map(|_| world.ledger.settle_alerts(&rules))).await;
    let raised: u64 = settled.iter().map(|it| it.as_ref().unwrap().changes.raised).sum();
    assert_eq!(raised, 2);
    for settled in settled {
        let standing = settled.unwrap().standing;
        assert!(standing[0].iter().all(|alert| alert.raised_at == at(NOW)), "{standing:?}");
        assert_eq!(standing[0].len(), 2);
    }
}
