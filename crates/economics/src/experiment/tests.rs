//! Tests of `experiment`: what cannot be is refused by its field, and a running experiment changes in nothing that counts.

use serde_json::json;

use super::*;

fn parsed(change: Value) -> Result<Experiment, Invalid> {
    let mut value = json!({"id": "tone", "organisation": "acme", "unit": "user", "arms": [
        {"name": "plain", "weight": 400}, {"name": "warm", "weight": 400, "model": "m", "prompt_version": "v2",
         "settings": {"temperature": 0.7, "max_tokens": 64}}, {"name": "none", "weight": 200, "held_out": true}]});
    for (path, new) in change.as_object().unwrap() {
        match value.pointer_mut(path) {
            Some(place) => *place = new.clone(),
            None => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                value.pointer_mut(parent).unwrap()[name] = new.clone();
            }
        }
    }
    let experiment: Experiment = crate::directory::parse::value(value)?;
    experiment.check().map(|()| experiment)
}

#[test]
fn what_cannot_be_is_refused_by_its_field() {
    parsed(json!({})).unwrap();
    parsed(json!({"/allocation": "thompson", "/floor_permille": 400})).unwrap();
    for (change, field) in [
        (json!({"/arms": []}), "arms"),
        (json!({"/arms/0/weight": 401}), "arms"),
        (json!({"/arms/0/weight": -1}), "arms[0].weight"),
        (json!({"/arms/1/name": "plain"}), "arms[1].name"),
        (json!({"/arms/1/name": ""}), "arms[1].name"),
        (json!({"/arms/1/settings": {"colour": 1}}), "arms[1].settings.colour"),
        (json!({"/arms/1/settings/temperature": 2.5}), "arms[1].settings.temperature"),
        (json!({"/arms/1/settings/temperature": "warm"}), "arms[1].settings.temperature"),
        (json!({"/arms/1/settings/top_p": 0}), "arms[1].settings.top_p"),
        (json!({"/arms/1/settings/max_tokens": 1.5}), "arms[1].settings.max_tokens"),
        (json!({"/arms/0/held_out": true}), "arms[0].held_out"),
        (json!({"/arms/2/model": "m"}), "arms[2].held_out"),
        (json!({"/arms/1": {"name": "too", "weight": 400, "held_out": true}}), "arms[2].held_out"),
        (json!({"/metric": "clicks"}), "metric"),
        (json!({"/unit": "request"}), "unit"),
        (json!({"/alpha_permille": 0}), "alpha_permille"),
        (json!({"/planned_units": 199}), "planned_units"),
        (json!({"/window_days": 366}), "window_days"),
        (json!({"/winner": "warm"}), "winner"),
        (json!({"/winner": "cold", "/state": "stopped"}), "winner"),
        (json!({"/winner": "none", "/state": "stopped"}), "winner"),
        (json!({"/allocation": "thompson", "/floor_permille": 401}), "floor_permille"),
        (json!({"/allocation": "thompson", "/floor_permille": 0}), "floor_permille"),
        (json!({"/allocation": "thompson", "/arms/0/weight": 40, "/arms/1/weight": 760}), "arms"),
    ] {
        assert_eq!(parsed(change.clone()).unwrap_err().field, field, "{change}");
    }
}

#[test]
fn a_running_experiment_changes_in_weights_and_state_alone() {
    let old = parsed(json!({})).unwrap().stamped(None, 5);
    assert_eq!((old.started, old.stopped, old.weights_from), (Some(5), None, Some(5)));
    for change in [
        json!({"/arms/0/weight": 300, "/arms/1/weight": 500}),
        json!({"/allocation": "thompson"}),
        json!({"/state": "stopped", "/winner": "warm"}),
    ] {
        parsed(change).unwrap().check_change(&old).unwrap();
    }
    for (change, field) in [
        (json!({"/arms/1/model": "other"}), "arms"),
        (json!({"/arms/1/name": "cold"}), "arms"),
        (json!({"/arms/1/settings/temperature": 0.8}), "arms"),
        (json!({"/arms/2/weight": 100, "/arms/0/weight": 500}), "arms[2].weight"),
        (json!({"/salt": "new"}), "salt"),
        (json!({"/unit": "episode"}), "unit"),
        (json!({"/metric": "accepted_share"}), "metric"),
        (json!({"/alpha_permille": 100}), "alpha_permille"),
        (json!({"/window_days": 3}), "window_days"),
        (json!({"/organisation": "other"}), "organisation"),
    ] {
        assert_eq!(parsed(change.clone()).unwrap().check_change(&old).unwrap_err().field, field, "{change}");
    }
    let same = parsed(json!({})).unwrap().stamped(Some(&old), 9);
    assert_eq!((same.started, same.weights_from), (Some(5), Some(5)));
    let stopped = parsed(json!({"/state": "stopped", "/winner": "warm"})).unwrap().stamped(Some(&old), 9);
    assert_eq!((stopped.started, stopped.stopped, stopped.last_arm()), (Some(5), Some(9), 1));
    assert_eq!(old.check_change(&stopped).unwrap_err().field, "state");
}
