//! The ledger's entries and accounts over HTTP: newest first, their postings in balance, filters and pages.

use std::collections::HashMap;

use economics::Nano;
use serde_json::{Value, json};

use crate::books::{ADMIN, Shop};
use crate::costs::{answered, post_costs, read};

const PATH: &str = "/admin/v1/ledger/entries";

fn seqs(page: &Value) -> Vec<u64> {
    page["data"].as_array().unwrap().iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

/// All units as nano-units, which hold six and three decimals too.
fn nano(leg: &Value) -> i128 {
    leg["amount"].as_str().unwrap().parse::<Nano>().unwrap().0.into()
}

#[tokio::test]
async fn entries_come_newest_first_and_their_postings_add_up() {
    let shop = Shop::open(true).await;
    let (_, id) = answered(&shop).await;
    post_costs(&shop, &id);
    let all = read(&shop, &format!("{PATH}?limit=500")).await;
    let last = shop.books.ledger().last_seq().unwrap();
    let numbers = seqs(&all);
    assert_eq!((numbers.first(), numbers.last(), &all["next_before"]), (Some(&last), Some(&1), &Value::Null));
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1] + 1), "{numbers:?}");
    for entry in all["data"].as_array().unwrap() {
        let mut sums = HashMap::<&str, i128>::new();
        for leg in entry["legs"].as_array().unwrap() {
            *sums.entry(leg["unit"].as_str().unwrap()).or_default() += nano(leg);
        }
        assert!(sums.values().all(|sum| *sum == 0), "{entry}");
    }

    // What the ledger has of the request: its charge and what it cost.
    let of_request = read(&shop, &format!("{PATH}?request={id}")).await;
    let kinds: Vec<_> = of_request["data"].as_array().unwrap().iter().map(|entry| &entry["kind"]).collect();
    assert_eq!(kinds, ["request_cost", "charge"]);
    let charge = &of_request["data"][1];
    assert!(id.ends_with(charge["id"].as_str().unwrap()), "{charge}");
    let paid = charge["legs"].as_array().unwrap().iter().find(|leg| leg["account"] == "org/acme/money").unwrap();
    assert_eq!((&paid["amount"], &paid["unit"]), (&json!("-0.00013"), &json!("money")));
    assert_eq!(paid["account_kind"], "customer");

    // By kind, by account, page by page.
    let payments = read(&shop, &format!("{PATH}?kind=payment")).await;
    assert_eq!((payments["data"].as_array().unwrap().len(), &payments["looked_at"]), (1, &json!(last)));
    let mut found = Vec::new();
    let mut next = String::new();
    loop {
        let page = read(&shop, &format!("{PATH}?account=org/acme/money&limit=1{next}")).await;
        found.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["kind"].clone()));
        let Some(before) = page["next_before"].as_u64() else { break };
        next = format!("&before={before}");
    }
    assert_eq!(found, ["charge", "payment"], "the opening of an account is no posting on it");
    // What was done before now, and nothing of the year 1970.
    let none = read(&shop, &format!("{PATH}?start_time=0&end_time=86400")).await;
    assert!(seqs(&none).iter().all(|seq| all["data"][usize::try_from(last - seq).unwrap()]["at_ms"] == 0), "{none}");
    let future = read(&shop, &format!("{PATH}?start_time=4000000000")).await;
    assert_eq!((seqs(&future), &future["next_before"]), (Vec::new(), &Value::Null));
    let document = read(&shop, &format!("{PATH}?kind=document&limit=1")).await;
    assert_eq!((&document["data"][0]["document"]["key"], &document["data"][0]["legs"]), (&json!("k1"), &json!([])));
}

#[tokio::test]
async fn accounts_stand_at_the_sum_of_their_postings() {
    let shop = Shop::open(true).await;
    let (_, id) = answered(&shop).await;
    post_costs(&shop, &id);
    let entries = read(&shop, &format!("{PATH}?limit=500")).await;
    let mut sums = HashMap::<String, i128>::new();
    for leg in entries["data"].as_array().unwrap().iter().flat_map(|entry| entry["legs"].as_array().unwrap()) {
        *sums.entry(leg["account"].as_str().unwrap().to_owned()).or_default() += nano(leg);
    }
    let (mut after, mut known) = (String::new(), 0);
    loop {
        let page = read(&shop, &format!("/admin/v1/ledger/accounts?limit=3{after}")).await;
        for account in page["data"].as_array().unwrap() {
            let name = account["name"].as_str().unwrap();
            let posted: i128 = account["posted"].as_str().unwrap().parse::<Nano>().unwrap().0.into();
            assert_eq!(posted, sums.get(name).copied().unwrap_or_default(), "{account}");
            assert_eq!(account["id"], known);
            known += 1;
        }
        let Some(next) = page["next_after"].as_u64() else { break };
        after = format!("&after={next}");
    }
    assert!(known > 7, "{known}");
    let customers = read(&shop, "/admin/v1/ledger/accounts?kind=customer&name=acme").await;
    assert_eq!(customers["data"].as_array().unwrap().len(), 1);
    let account = &customers["data"][0];
    assert_eq!(
        (&account["name"], &account["posted"], &account["held"], &account["floor"]),
        (&json!("org/acme/money"), &json!("4.99987"), &json!("0"), &json!("0"))
    );
}

#[tokio::test]
async fn others_see_no_entries_and_wrong_words_are_named() {
    let shop = Shop::open(true).await;
    let (key, _) = answered(&shop).await;
    for path in [PATH, "/admin/v1/ledger/accounts"] {
        assert_eq!(shop.ask(&key, "GET", path, &Value::Null).await.status, 403, "{path}");
    }
    for (query, param, part) in [
        ("entries?limit=501", "limit", "1 to 500"),
        ("entries?limit=0", "limit", "1 to 500"),
        ("entries?before=x", "before", "`seq`"),
        ("entries?kind=gift", "kind", "got `gift`"),
        ("entries?account=org/none/money", "account", "there is no account `org/none/money`"),
        ("entries?start_time=5&end_time=4", "start_time", "before"),
        ("entries?request=cmpl-1&kind=charge", "kind", "`kind` does not go with `request`"),
        ("entries?account=org/acme/money&request=cmpl-1", "account", "leave it out"),
        ("entries?request=cmpl-1&before=5", "before", "all of one request"),
        ("entries?request=cmpl-1&start_time=5", "start_time", "leave it out"),
        ("entries?order=asc", "order", "unrecognized"),
        ("accounts?kind=shop", "kind", "customer or pool"),
        ("accounts?after=-1", "after", "`id`"),
    ] {
        let answer = shop.ask(ADMIN, "GET", &format!("/admin/v1/ledger/{query}"), &Value::Null).await;
        let error = answer.error();
        assert_eq!((answer.status, error.param.as_deref()), (400, Some(param)), "{query}");
        assert!(error.message.contains(part), "{}", error.message);
    }
}
