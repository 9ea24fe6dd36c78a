//! Which query columns meet which blocks together, and what is computed apart from its tile.
//!
//! A tile's spans are computed each from nothing and merged in order. So a span may be computed apart, ahead of the
//! tile: by another thread, or together with other tiles whose tables name the same blocks there (a shared prefix, or
//! candidates of one prompt), which then read these blocks once. No bit depends on what is chosen here.

use std::ops::Range;

use super::tile::{Tile, padded};
use super::{
    AttentionInput, AttentionShape, PARALLEL_WORK_MIN, SPAN_BLOCKS, SPAN_TOKENS, STATES_MAX, TILE_COLUMNS_MAX,
    TILE_FLOATS,
};

/// The tiles of a call, and the parts that are computed ahead of them.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) tiles: Vec<Tile>,
    pub(super) parts: Vec<Part>,
    /// The parts' tiles, part after part.
    members: Vec<usize>,
    /// Floats of all parts' states.
    pub(super) floats: usize,
    /// Where each span of each tile is computed, if apart; tile after tile. Empty when there are no parts.
    places: Vec<Option<Place>>,
    /// Where each tile's places begin.
    starts: Vec<usize>,
    /// Tiles whose tables agree with others' so far, by number of their group.
    agreeing: Vec<(usize, usize)>,
}

/// A span of one tile, or of several that meet its blocks together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) span: usize,
    /// Its first tile among the plan's members.
    first: usize,
    /// Number of tiles.
    pub(super) tiles: usize,
    /// Query rows of one KV head.
    pub(super) rows: usize,
    /// Where the state of its rows of the first KV head begins, in floats; the others follow.
    start: usize,
}

impl Part {
    /// Where the state of its rows of a KV head stands among all parts' states.
    pub(super) fn states(&self, shape: &AttentionShape, kv_head: usize) -> Range<usize> {
        let len = self.rows * (padded(shape) + 2);
        self.start + kv_head * len..self.start + (kv_head + 1) * len
    }
}

/// Where a tile's state of one span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Which part.
    part: usize,
    /// The tile's first row in it.
    row: usize,
}

/// Columns whose accumulators stay in the first-level cache.
fn columns_held(shape: &AttentionShape) -> usize {
    (TILE_FLOATS / (shape.group() * shape.head_dim)).max(1)
}

impl Plan {
    /// Cuts the columns into tiles: neighbours of one sequence with ascending positions. No parts yet.
    pub(super) fn cut(&mut self, input: &AttentionInput<'_>) {
        let columns_max = columns_held(&input.shape).min(TILE_COLUMNS_MAX);
        self.tiles.clear();
        self.parts.clear();
        self.members.clear();
        self.places.clear();
        self.starts.clear();
        self.floats = 0;
        for (i, column) in input.columns.iter().enumerate() {
            let position = column.position as usize;
            match self.tiles.last_mut() {
                Some(tile)
                    if tile.columns < columns_max
                        && input.columns[tile.first].sequence == column.sequence
                        && tile.position + tile.columns == position =>
                {
                    tile.columns += 1;
                }
                _ => self.tiles.push(Tile { first: i, columns: 1, position, sequence: column.sequence as usize }),
            }
        }
    }

    /// Multiply-adds of this call, roughly.
    pub(super) fn work(&self, shape: &AttentionShape) -> usize {
        let keys = |t: &Tile| (t.last_position() + 1).min(shape.window.map_or(usize::MAX, |w| w + t.columns));
        self.tiles.iter().map(|t| t.columns * keys(t) * work_per_key(shape)).sum()
    }

    /// Makes parts of the spans that several tiles see whole, of the same blocks. Tiles of many columns stay apart: they
    /// use a block often enough for each time they read it.
    pub(super) fn share(&mut self, input: &AttentionInput<'_>) {
        let shape = &input.shape;
        let columns_max = columns_held(shape).min(TILE_COLUMNS_MAX) / 2;
        let mut agreeing = std::mem::take(&mut self.agreeing);
        agreeing.clear();
        let joins = |tile: &Tile| tile.columns <= columns_max && !tile.whole_spans(shape).is_empty();
        agreeing.extend((0..self.tiles.len()).filter(|&tile| joins(&self.tiles[tile])).map(|tile| (0, tile)));
        let mut span = 0;
        // Tables that differ in one span are not compared further on.
        while agreeing.len() > 1 {
            agreeing.retain(|&(_, tile)| span < self.tiles[tile].whole_spans(shape).end);
            self.share_span(input, span, &mut agreeing);
            span += 1;
        }
        self.agreeing = agreeing;
        let saved: usize = self.parts.iter().map(|part| part.tiles - 1).sum();
        if saved * SPAN_TOKENS * work_per_key(shape) < PARALLEL_WORK_MIN {
            // Less than what waiting once more for all threads costs.
            self.parts.clear();
            self.members.clear();
            self.places.clear();
            self.floats = 0;
        }
    }

    /// Leaves of the tiles that agreed before `span` those that agree there too, and makes parts of them.
    fn share_span(&mut self, input: &AttentionInput<'_>, span: usize, agreeing: &mut Vec<(usize, usize)>) {
        let tiles = &self.tiles;
        let blocks = |tile: usize| &input.tables[tiles[tile].sequence][span * SPAN_BLOCKS..(span + 1) * SPAN_BLOCKS];
        agreeing.sort_unstable_by_key(|&(group, tile)| (group, blocks(tile), tile));
        let (mut from, mut kept, mut groups) = (0, 0, 0);
        while let Some(&(group, first)) = agreeing.get(from) {
            let same = |&&(g, tile): &&(usize, usize)| g == group && blocks(tile) == blocks(first);
            let count = agreeing[from..].iter().take_while(same).count();
            if count > 1 {
                for i in from..from + count {
                    agreeing[kept] = (groups, agreeing[i].1);
                    kept += 1;
                }
                groups += 1;
            }
            from += count;
        }
        agreeing.truncate(kept);
        for group in agreeing.chunk_by(|a, b| a.0 == b.0) {
            self.join(&input.shape, span, group);
        }
    }

    /// Makes parts of those tiles of a group that see the span whole, as many rows in each as the cache holds.
    fn join(&mut self, shape: &AttentionShape, span: usize, group: &[(usize, usize)]) {
        let columns_max = columns_held(shape);
        let (mut first, mut columns) = (self.members.len(), 0);
        for &(_, index) in group {
            let tile = self.tiles[index];
            if !tile.whole_spans(shape).contains(&span) {
                continue;
            }
            if columns + tile.columns > columns_max {
                self.close_shared(shape, span, first);
                (first, columns) = (self.members.len(), 0);
            }
            self.members.push(index);
            columns += tile.columns;
        }
        self.close_shared(shape, span, first);
    }

    /// Makes a part of the members from `first` on, if there are several and memory for their states; else they go.
    fn close_shared(&mut self, shape: &AttentionShape, span: usize, first: usize) {
        let members = &self.members[first..];
        let floats: usize = members.iter().map(|&tile| shape.kv_heads * self.tiles[tile].state_len(shape)).sum();
        if members.len() > 1 && self.floats + floats <= STATES_MAX {
            self.push(shape, span, first);
        } else {
            self.members.truncate(first);
        }
    }

    /// Makes a part of each span that is in none yet, so that all may be computed side by side.
    pub(super) fn split(&mut self, shape: &AttentionShape) {
        for index in 0..self.tiles.len() {
            for span in self.tiles[index].spans(shape) {
                if self.place(shape, index, span).is_none() {
                    self.members.push(index);
                    self.push(shape, span, self.members.len() - 1);
                }
            }
        }
    }

    /// Adds the part of the members from `first` on.
    fn push(&mut self, shape: &AttentionShape, span: usize, first: usize) {
        if self.places.is_empty() {
            self.starts.clear();
            let mut len = 0;
            for tile in &self.tiles {
                self.starts.push(len);
                len += tile.spans(shape).len();
            }
            self.places.resize(len, None);
        }
        let members = &self.members[first..];
        let rows = members.iter().map(|&tile| self.tiles[tile].rows(shape)).sum();
        let part = Part { span, first, tiles: members.len(), rows, start: self.floats };
        let mut row = 0;
        let number = self.parts.len();
        for &index in members {
            let tile = &self.tiles[index];
            self.places[self.starts[index] + span - tile.spans(shape).start] = Some(Place { part: number, row });
            row += tile.rows(shape);
            self.floats += shape.kv_heads * tile.state_len(shape);
        }
        self.parts.push(part);
    }

    /// The part that computes a span that tile `index` sees, and the tile's first row there, if it is computed apart.
    pub(super) fn place(&self, shape: &AttentionShape, index: usize, span: usize) -> Option<(&Part, usize)> {
        let start = self.starts.get(index)?;
        let Place { part, row } = (*self.places.get(start + span - self.tiles[index].spans(shape).start)?)?;
        Some((&self.parts[part], row))
    }

    /// The tiles of a part.
    pub(super) fn tiles_of(&self, part: &Part) -> impl Iterator<Item = Tile> + Clone {
        self.members[part.first..part.first + part.tiles].iter().map(|&tile| self.tiles[tile])
    }
}

fn work_per_key(shape: &AttentionShape) -> usize {
    2 * shape.heads * shape.head_dim
}
