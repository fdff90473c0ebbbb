//! The tables of an index, by number.

use std::ops::{Index, IndexMut};

use super::table::Table;

const GROUP_BITS: u32 = 10;
/// Tables in a group, together 24 KiB.
const GROUP: usize = 1 << GROUP_BITS;

/// Tables in groups: one more never moves the others, where one long array would be copied whenever it is full.
///
/// Invariant: every group but the last is full, and none is empty.
#[derive(Debug)]
pub(super) struct Tables(Vec<Vec<Table>>);

impl Tables {
    /// One table, empty.
    pub(super) fn new() -> Self {
        Self(vec![vec![Table::default()]])
    }

    pub(super) fn len(&self) -> usize {
        (self.0.len() - 1) * GROUP + self.0[self.0.len() - 1].len()
    }

    pub(super) fn push(&mut self, table: Table) {
        match self.0.last_mut() {
            Some(group) if group.len() < GROUP => group.push(table),
            _ => {
                let mut group = Vec::with_capacity(GROUP);
                group.push(table);
                self.0.push(group);
            }
        }
    }

    /// Takes the last table off, which must not be the only one.
    pub(super) fn pop(&mut self) -> Table {
        let group = self.0.last_mut().expect("there is always a group");
        let table = group.pop().expect("no group is empty");
        if group.is_empty() {
            self.0.pop();
        }
        table
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter().flatten()
    }

    /// Bytes of the tables and what is in them.
    pub(super) fn allocated_bytes(&self) -> usize {
        let groups: usize = self.0.iter().map(Vec::capacity).sum();
        groups * size_of::<Table>() + self.iter().map(Table::allocated_bytes).sum::<usize>()
    }
}

impl Index<usize> for Tables {
    type Output = Table;
    #[inline]
    fn index(&self, number: usize) -> &Table {
        &self.0[number >> GROUP_BITS][number & (GROUP - 1)]
    }
}

impl IndexMut<usize> for Tables {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut Table {
        &mut self.0[number >> GROUP_BITS][number & (GROUP - 1)]
    }
}
