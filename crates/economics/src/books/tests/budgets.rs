//! What is used of budgets: what was charged in the window, what running requests hold, page by page.

use super::*;
use crate::directory::record::{EndUser, Team};
use crate::limits::Level;

fn ids(page: &[BudgetStanding]) -> Vec<(Level, &str)> {
    page.iter().map(|row| (row.level, row.id.as_str())).collect()
}

/// A budget at every level of `acme`, and one of another organisation.
fn budgets_everywhere() -> Plant {
    let plant = plant(budget(10 * OUT));
    let daily = Budget { period: Period::Day, soft: true, alert_percent: vec![], ..budget(3 * OUT).budget.unwrap() };
    let bounds = || budget(100 * OUT);
    let user = |organisation: &str, user: &str| EndUser {
        organisation: organisation.into(),
        user: user.into(),
        bounds: bounds(),
        blocked: false,
    };
    for record in [
        Record::Organisation(Organisation { bounds: bounds(), ..organisation(None) }),
        Record::Organisation(Organisation { id: "acme-2".into(), bounds: bounds(), ..organisation(None) }),
        Record::Team(Team { id: "red".into(), organisation: "acme".into(), name: "Red".into(), bounds: bounds() }),
        Record::Project(Project {
            team: Some("red".into()),
            bounds: Bounds { budget: Some(daily), ..Bounds::default() },
            ..project()
        }),
        Record::Project(Project { id: "plain".into(), ..project() }),
        Record::EndUser(user("acme", "ann/b")),
        Record::EndUser(user("acme-2", "ann")),
    ] {
        plant.books.change(record, "admin", NOW).unwrap();
    }
    plant
}

#[test]
fn every_budget_says_what_was_charged_and_what_is_held() {
    let plant = budgets_everywhere();
    plant.admit(0, 4).unwrap().settle(&used(0, 4), End::Length, NOW).unwrap();
    let mut running = plant.admit(0, 2).unwrap();
    let (rows, more) = plant.books.budgets(Some("acme"), None, 100, NOW).unwrap();
    assert!(!more);
    assert_eq!(
        ids(&rows),
        [
            (Level::Organisation, "acme"),
            (Level::Team, "red"),
            (Level::Project, "web"),
            (Level::Key, "k1"),
            (Level::EndUser, "acme/ann/b"),
        ]
    );
    let key = BudgetStanding {
        level: Level::Key,
        id: "k1".into(),
        organisation: "acme".into(),
        amount: Nano(10 * OUT),
        period: Period::Month,
        soft: false,
        alert_percent: vec![50, 100],
        window: "2026-11-01".into(),
        spent: Nano(4 * OUT),
        held: Nano(2 * OUT),
        left: Nano(4 * OUT),
        raised: vec![],
    };
    assert_eq!(rows[3], key);
    // Only watched: running requests hold nothing of it, and more than all of it may be used.
    let BudgetStanding { window, left, soft, .. } = &rows[2];
    assert_eq!((window.as_str(), *left, *soft), ("2026-11-15", Nano(-OUT), true));
    assert_eq!((rows[4].spent, rows[4].left), (Nano::ZERO, Nano(100 * OUT)), "the end user asked nothing");

    running.settle(&used(0, 2), End::Length, NOW).unwrap();
    let charged = |now_ms: i64| -> Vec<(Nano, Nano, Vec<u16>)> {
        let (rows, _) = plant.books.budgets(Some("acme"), None, 100, now_ms).unwrap();
        rows.into_iter().map(|row| (row.spent, row.held, row.raised)).collect()
    };
    let (all, none) = ((Nano(6 * OUT), Nano::ZERO, vec![]), (Nano::ZERO, Nano::ZERO, vec![]));
    let key = (Nano(6 * OUT), Nano::ZERO, vec![50]);
    assert_eq!(charged(NOW), [all.clone(), all.clone(), all.clone(), key.clone(), none.clone()]);
    // The next day only the daily budget begins anew, the next month all of them.
    assert_eq!(charged(NOW + DAY_MS), [all.clone(), all, none.clone(), key, none.clone()]);
    assert_eq!(charged(NOW + 31 * DAY_MS), [none.clone(), none.clone(), none.clone(), none.clone(), none]);
    plant.check();
}

#[test]
fn pages_of_budgets_miss_none_and_repeat_none() {
    let plant = budgets_everywhere();
    let (all, more) = plant.books.budgets(None, None, usize::MAX, NOW).unwrap();
    assert!(!more);
    assert_eq!(
        ids(&all)[..2],
        [(Level::Organisation, "acme"), (Level::Organisation, "acme-2")],
        "those of all organisations"
    );
    // Of end users the organisation counts first: as text `acme-2/ann` would stand before `acme/ann/b`.
    assert_eq!(ids(&all)[5..], [(Level::EndUser, "acme/ann/b"), (Level::EndUser, "acme-2/ann")]);
    for limit in 1..=all.len() {
        let mut found: Vec<BudgetStanding> = Vec::new();
        loop {
            let after = found.last().map(|last| (last.level, last.id.clone()));
            let after = after.as_ref().map(|(level, id)| (*level, id.as_str()));
            let (page, more) = plant.books.budgets(None, after, limit, NOW).unwrap();
            assert!(page.len() == limit || !more);
            found.extend(page);
            assert_eq!(more, found.len() < all.len());
            if !more {
                break;
            }
        }
        assert_eq!(found, all, "{limit} a page");
    }
    let (rest, _) = plant.books.budgets(Some("acme-2"), Some((Level::Organisation, "acme-2")), 9, NOW).unwrap();
    assert_eq!(ids(&rest), [(Level::EndUser, "acme-2/ann")]);
}
