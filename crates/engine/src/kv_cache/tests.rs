//! Tests of the block bookkeeping.

use super::*;

const START: Parent = Parent::Start(Origin { cache_salt: 0, adapter: 0 });

fn tokens(first: TokenId) -> Vec<TokenId> {
    (first..first + 32).collect()
}

fn published(kv: &mut KvBlocks, parent: Parent, first: TokenId) -> BlockId {
    let block = kv.allocate().unwrap();
    kv.publish(parent, &tokens(first), block).unwrap()
}

fn check(kv: &KvBlocks, tables: &[&[BlockId]]) {
    kv.check(tables.iter().copied());
}

#[test]
fn blocks_run_out_and_come_back() {
    let mut kv = KvBlocks::new(3, true);
    let table: Vec<BlockId> = (0..3).map(|_| kv.allocate().unwrap()).collect();
    assert_eq!(kv.allocate(), None);
    check(&kv, &[&table]);
    for block in table.iter().rev() {
        kv.release(*block);
    }
    check(&kv, &[]);
    assert_eq!((kv.available(), kv.used(), kv.cached()), (3, 0, 0));
}

#[test]
fn the_oldest_leaf_goes_before_its_parent() {
    let mut kv = KvBlocks::new(4, true);
    let a = published(&mut kv, START, 0);
    let b = published(&mut kv, Parent::Block(a), 100);
    let c = published(&mut kv, START, 200);
    check(&kv, &[&[a, b], &[c]]);
    // Even released in the wrong order a parent outlives its child.
    for block in [a, b, c] {
        kv.release(block);
    }
    assert_eq!((kv.cached(), kv.available()), (3, 4));
    let free = kv.allocate().unwrap();
    assert!(![a, b, c].contains(&free), "free blocks first");
    assert_eq!(kv.allocate(), Some(b));
    assert_eq!(kv.allocate(), Some(a), "a became a leaf, older than c");
    assert_eq!(kv.find(START, &tokens(200)), Some(c));
    assert_eq!(kv.find(START, &tokens(0)), None);
    check(&kv, &[&[free, b, a]]);
}

#[test]
fn a_held_child_holds_its_parent() {
    let mut kv = KvBlocks::new(2, true);
    let a = published(&mut kv, START, 0);
    let b = published(&mut kv, Parent::Block(a), 100);
    kv.release(b);
    assert_eq!(kv.allocate(), Some(b));
    assert_eq!(kv.allocate(), None, "the parent is in use");
    check(&kv, &[&[a, b]]);
}

#[test]
fn equal_content_is_kept_once() {
    let mut kv = KvBlocks::new(4, true);
    let a = published(&mut kv, START, 0);
    let copy = kv.allocate().unwrap();
    assert_eq!(kv.publish(START, &tokens(0), copy), Some(a));
    assert_eq!((kv.used(), kv.references(a)), (1, 2));
    check(&kv, &[&[a], &[a]]);
}

#[test]
fn the_same_tokens_after_another_parent_are_another_block() {
    let mut kv = KvBlocks::new(6, true);
    let a = published(&mut kv, START, 0);
    let b = published(&mut kv, START, 100);
    let under_a = published(&mut kv, Parent::Block(a), 200);
    assert_eq!(kv.find(Parent::Block(a), &tokens(200)), Some(under_a));
    assert_eq!(kv.find(Parent::Block(b), &tokens(200)), None);
    assert_eq!(kv.find(START, &tokens(200)), None);
    assert_eq!(kv.find_partial(Parent::Block(a), &[200, 201, 5]), Some((under_a, 2)));
    assert_eq!(kv.find_partial(Parent::Block(b), &[200, 201, 5]), None);
    assert_eq!(kv.find_partial(START, &[200, 201, 5]), None);
}

#[test]
fn a_new_block_in_an_old_ones_place_has_no_children() {
    let mut kv = KvBlocks::new(2, true);
    let a = published(&mut kv, START, 0);
    let b = published(&mut kv, Parent::Block(a), 100);
    kv.release(b);
    kv.release(a);
    let other = published(&mut kv, START, 500);
    assert_eq!(other, b);
    assert_eq!(kv.find(Parent::Block(other), &tokens(100)), None);
    check(&kv, &[&[other]]);
}

#[test]
fn the_longest_common_beginning_is_found() {
    let mut kv = KvBlocks::new(8, true);
    let mut add = |start: [TokenId; 3]| {
        let block = kv.allocate().unwrap();
        let mut content = tokens(1000);
        content[..3].copy_from_slice(&start);
        kv.publish(START, &content, block).unwrap()
    };
    let low = add([1, 2, 3]);
    let high = add([1, 5, 3]);
    let far = add([7, 0, 0]);
    assert_eq!(kv.find_partial(START, &[1, 2, 9]), Some((low, 2)));
    assert_eq!(kv.find_partial(START, &[1, 5]), Some((high, 2)));
    assert_eq!(kv.find_partial(START, &[7]), Some((far, 1)));
    assert_eq!(kv.find_partial(START, &[8]), None);
    assert_eq!(kv.find_partial(START, &[]), None);
}

#[test]
fn a_tail_is_found_until_evicted() {
    let mut kv = KvBlocks::new(2, true);
    let a = published(&mut kv, START, 0);
    let tail = kv.allocate().unwrap();
    kv.publish_tail(Parent::Block(a), &[5, 6, 7], tail);
    kv.release(tail);
    kv.release(a);
    check(&kv, &[]);
    assert_eq!(kv.find_partial(Parent::Block(a), &[5, 6, 9]), Some((tail, 2)));
    assert_eq!(kv.allocate(), Some(tail));
    assert_eq!(kv.find_partial(Parent::Block(a), &[5, 6, 9]), None);
    check(&kv, &[&[tail]]);
}

#[test]
fn without_caching_nothing_stays() {
    let mut kv = KvBlocks::new(2, false);
    let block = kv.allocate().unwrap();
    assert_eq!(kv.publish(START, &tokens(0), block), None);
    kv.release(block);
    assert_eq!((kv.cached(), kv.available()), (0, 2));
    check(&kv, &[]);
}

#[test]
fn adapters_and_customers_share_nothing() {
    let mut kv = KvBlocks::new(6, true);
    let own = published(&mut kv, START, 0);
    let start = |cache_salt, adapter| Parent::Start(Origin { cache_salt, adapter });
    let first = published(&mut kv, start(0, 1), 0);
    let second = published(&mut kv, start(0, 2), 0);
    let other = published(&mut kv, start(1, 0), 0);
    let after = published(&mut kv, Parent::Block(first), 100);
    assert!(own != first && first != second, "equal tokens, other content");
    for (origin, block) in [(START, own), (start(0, 1), first), (start(0, 2), second), (start(1, 0), other)] {
        assert_eq!(kv.find(origin, &tokens(0)), Some(block));
        assert_eq!(kv.find_partial(origin, &[0, 1, 7]), Some((block, 2)));
    }
    assert_eq!(kv.find(start(1, 1), &tokens(0)), None);
    assert_eq!(kv.find_partial(start(2, 0), &[0, 1]), None);
    assert_eq!(kv.find(Parent::Block(own), &tokens(100)), None);
    check(&kv, &[&[own], &[first, after], &[second], &[other]]);
}
