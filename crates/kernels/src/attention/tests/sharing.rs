//! Sequences that share blocks: the same bits as each alone, and each shared block is read once.

use super::*;

/// A store full of keys and values, and sequences whose tables name its blocks as they like.
struct Crowd {
    shape: AttentionShape,
    store: KvStore,
    tables: Vec<Vec<u32>>,
    columns: Vec<QueryColumn>,
    queries: Vec<f32>,
}

impl Crowd {
    /// Sequences with these tables, of which the last positions are asked: sequence, first position, number.
    fn new(
        random: &mut Random,
        (kv_type, shape): (KvType, AttentionShape),
        tables: Vec<Vec<u32>>,
        asked: &[(u32, u32, u32)],
    ) -> Self {
        let blocks = tables.iter().flatten().max().unwrap() + 1;
        let mut store = KvStore::new(kv_type, 2, shape.kv_heads, shape.head_dim, blocks as usize).unwrap();
        let width = shape.kv_heads * shape.head_dim;
        for (block, slot) in (0..blocks as usize).flat_map(|block| (0..32).map(move |slot| (block, slot))) {
            store.write(1, block, slot, &random.values(width, 1.5), &random.values(width, 2.0));
        }
        let column = |&(sequence, first, count): &(u32, u32, u32)| {
            (first..first + count).map(move |position| QueryColumn { position, sequence })
        };
        let columns: Vec<QueryColumn> = asked.iter().flat_map(column).collect();
        let queries = random.values(columns.len() * shape.heads * shape.head_dim, 1.5);
        Self { shape, store, tables, columns, queries }
    }

    /// Runs the columns `some` in one call.
    fn run(&self, isa: Isa, threads: usize, some: Range<usize>) -> (Attention, Vec<f32>) {
        let width = self.shape.heads * self.shape.head_dim;
        let tables: Vec<&[u32]> = self.tables.iter().map(Vec::as_slice).collect();
        let input = AttentionInput {
            shape: self.shape,
            store: &self.store,
            layer: 1,
            columns: &self.columns[some.clone()],
            tables: &tables,
            queries: &self.queries[some.start * width..some.end * width],
        };
        let (mut attention, mut out) = (Attention::new(), vec![f32::NAN; input.queries.len()]);
        // Twice: what the first call left behind must not matter.
        for _ in 0..2 {
            out.fill(f32::NAN);
            attention.run_with(isa, &ThreadPool::new(threads).unwrap(), &input, &mut out);
        }
        (attention, out)
    }

    /// Each column in a call of its own.
    fn alone(&self) -> Vec<f32> {
        (0..self.columns.len()).flat_map(|i| self.run(Isa::best(), 1, i..i + 1).1).collect()
    }
}

/// Blocks of `total` of which the first `shared` are the same for all of `sequences`.
fn tables(sequences: usize, shared: usize, total: usize) -> Vec<Vec<u32>> {
    let own = |s: usize| (0..total).map(move |i| if i < shared { i } else { total + s * total + i } as u32);
    (0..sequences).map(|s| own(s).collect()).collect()
}

/// The spans, sizes and rows of the parts of several tiles.
fn shared(attention: &Attention) -> Vec<(usize, usize, usize)> {
    let parts = attention.plan.parts.iter().filter(|part| part.tiles > 1);
    parts.map(|part| (part.span, part.tiles, part.rows)).collect()
}

#[test]
fn shared_blocks_change_no_bit() {
    let mut random = Random(11);
    let mut shared_parts = 0;
    let shapes = [
        shape(9, 3, 64, None),
        shape(4, 1, 256, Some(512)),
        shape(8, 8, 16, Some(100)),
        shape(4, 2, 32, Some(300)),
        shape(6, 1, 100, None),
    ];
    for (round, shape) in shapes.iter().cycle().take(20).enumerate() {
        let kv_type = KvType::ALL[round % 2];
        // A tree of prefixes: each sequence takes some blocks of an earlier one, then goes on alone.
        let (mut tables, mut asked, mut next) = (Vec::<Vec<u32>>::new(), Vec::new(), 0..);
        for sequence in 0..[2, 5, 17, 30][round % 4] {
            let taken = [0, 2, 4, 9, 12, 16][random.below(6)];
            let mut table: Vec<u32> = match tables.len() {
                0 => Vec::new(),
                n => tables[random.below(n)].iter().copied().take(taken).collect(),
            };
            let len = 1 + random.below(20 * 32);
            let blocks = table.len().max(len.div_ceil(32));
            table.extend(next.by_ref().take(blocks - table.len()));
            tables.push(table);
            let count = [1, 1, 1, 3, 8, 20][random.below(6)].min(len);
            asked.push((sequence, (len - count) as u32, count as u32));
        }
        let crowd = Crowd::new(&mut random, (kv_type, *shape), tables, &asked);
        let expected = crowd.alone();
        for threads in [1, 2, 5] {
            let (attention, got) = crowd.run(Isa::best(), threads, 0..crowd.columns.len());
            assert_eq!(bits(&got), bits(&expected), "round {round} {shape:?}, {threads} threads");
            shared_parts += self::shared(&attention).len();
        }
        // The portable version takes long.
        for &isa in Isa::available().iter().filter(|_| round % 4 < 2) {
            let (_, got) = crowd.run(isa, 2, 0..crowd.columns.len());
            assert_eq!(bits(&got), bits(&expected), "round {round} {shape:?} {isa:?}");
        }
    }
    assert!(shared_parts > 50, "{shared_parts} parts were shared");
}

#[test]
fn a_shared_span_is_visited_once() {
    let mut random = Random(12);
    let decode = |n: u32, position: u32| (0..n).map(|s| (s, position, 1)).collect::<Vec<_>>();
    let run = |random: &mut Random, shape, tables, asked: &[(u32, u32, u32)]| {
        let crowd = Crowd::new(random, (KvType::F16, shape), tables, asked);
        let (attention, got) = crowd.run(Isa::best(), 2, 0..crowd.columns.len());
        assert_eq!(bits(&got), bits(&crowd.alone()));
        self::shared(&attention)
    };
    let (smol, gemma) = (shape(9, 3, 64, None), shape(4, 1, 256, Some(200)));
    // 18 blocks are shared, four whole spans; the fifth is not whole, the last blocks are each sequence's own.
    assert_eq!(
        run(&mut random, smol, tables(16, 18, 22), &decode(16, 700)),
        (0..4).map(|span| (span, 16, 48)).collect::<Vec<_>>()
    );
    // Nothing is shared, or less than a span.
    for shared in [0, 3] {
        assert_eq!(run(&mut random, smol, tables(16, shared, 22), &decode(16, 700)), []);
    }
    // A window of positions 501 to 700 cuts the fourth span; of 256 values eight columns fill a part.
    assert_eq!(run(&mut random, gemma, tables(9, 22, 22), &decode(9, 700)), [(4, 8, 32)]);
    // A sequence that ends within the third span, one that leaves in the second, and a long prompt that stays apart.
    let mut all = tables(5, 22, 22);
    all[1][5] = 22;
    let asked = [(0, 700, 1), (1, 700, 1), (2, 300, 1), (3, 600, 48), (4, 512, 2)];
    assert_eq!(run(&mut random, smol, all, &asked), [(0, 4, 15), (1, 3, 12), (2, 2, 9), (3, 2, 9)]);
}

/// Long contexts of many sequences would need more memory than there is reason to spend.
#[test]
fn memory_of_shared_spans_is_bounded() {
    let shape = shape(9, 3, 64, None);
    let store = KvStore::new(KvType::F16, 1, 3, 64, 1).unwrap();
    let table: Vec<u32> = (0..256).collect();
    let tables = vec![table.as_slice(); 500];
    let columns: Vec<QueryColumn> = (0..500).map(|sequence| QueryColumn { position: 8191, sequence }).collect();
    let queries = vec![0.0; 500 * 9 * 64];
    let input =
        AttentionInput { shape, store: &store, layer: 0, columns: &columns, tables: &tables, queries: &queries };
    let mut plan = Plan::default();
    plan.cut(&input);
    plan.share(&input);
    assert!(plan.floats <= STATES_MAX && plan.floats > STATES_MAX / 2, "{} floats", plan.floats);
    let states: usize = plan.parts.iter().map(|part| 3 * part.rows * 66).sum();
    assert_eq!(states, plan.floats);
}
