//! Who works on what: rules that every facilitator on one database follows by itself, looking at what all of them hold, so that
//! each comes to its part without asking the others.

use tallybook_store::Node;

/// What a facilitator does next about the books of all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Next {
    /// Books that it tries to take up. Another may be faster.
    pub(super) take: Vec<[u8; 32]>,
    /// The book that it gives away.
    pub(super) give: Option<[u8; 32]>,
}

/// What the facilitator that asks does next, of `books`, where `nodes` are at work. A part is so many books that all have one:
/// it takes what nobody has up to that, if none has less than it; and whatever has been free for so long that nobody else takes
/// it, as `is_left` says. It gives one away when it has the most, and two more than another.
pub(super) fn next(books: &[[u8; 32]], nodes: &[Node], is_left: impl Fn(&[u8; 32]) -> bool) -> Next {
    let count = |node: &Node| books.iter().filter(|book| node.holds(book)).count();
    let Some(own) = nodes.iter().find(|node| node.is_this_one) else { return Next::default() };
    let mine = count(own);
    let least = nodes.iter().map(count).min().unwrap_or(0);
    let part = books.len().div_ceil(nodes.len().max(1));
    let room = if mine == least { part.saturating_sub(mine) } else { 0 };
    let mut free = books.iter().copied().filter(|book| !nodes.iter().any(|node| node.holds(book))).peekable();
    if free.peek().is_some() {
        let take = free.enumerate().filter(|(at, book)| *at < room || is_left(book)).map(|(_, book)| book);
        return Next { take: take.collect(), give: None };
    }
    // Of several that have the most, one begins.
    let most = nodes.iter().map(|node| (count(node), std::cmp::Reverse(node.number))).max();
    let is_mine = most == Some((mine, std::cmp::Reverse(own.number)));
    let gives = is_mine && mine.saturating_sub(least) > 1;
    Next { take: Vec::new(), give: books.iter().rev().find(|book| gives && own.holds(book)).copied() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tallybook_store::lock_of;

    fn books(number: u8) -> Vec<[u8; 32]> {
        (0..number).map(|book| [book; 32]).collect()
    }

    /// Facilitators, by their numbers, with what each has.
    #[derive(Default)]
    struct Town(BTreeMap<u16, Vec<[u8; 32]>>);

    impl Town {
        fn nodes(&self, asking: u16) -> Vec<Node> {
            let node = |(number, held): (&u16, &Vec<[u8; 32]>)| {
                Node::new(format!("http://{number}:1"), *number, *number == asking, held.iter().map(lock_of))
            };
            self.0.iter().map(node).collect()
        }

        /// One look of one of them. `is_late` when what is free has been so for long.
        fn look(&mut self, books: &[[u8; 32]], number: u16, is_late: bool) -> bool {
            let Next { take, give } = next(books, &self.nodes(number), |_| is_late);
            let is_still = take.is_empty() && give.is_none();
            let held = self.0.get_mut(&number).unwrap();
            held.extend(take);
            held.retain(|book| Some(*book) != give);
            is_still
        }

        /// Looks in turn until nobody does anything.
        fn settle(&mut self, books: &[[u8; 32]]) -> Vec<usize> {
            for round in 0..1_000 {
                let numbers: Vec<u16> = self.0.keys().copied().collect();
                let still = numbers.iter().filter(|number| self.look(books, **number, round % 10 == 9)).count();
                if still == numbers.len() && round % 10 == 9 {
                    let mut held: Vec<[u8; 32]> = self.0.values().flatten().copied().collect();
                    held.sort_unstable();
                    assert_eq!(held, books, "each book is held once");
                    return self.0.values().map(Vec::len).collect();
                }
            }
            panic!("they never come to rest: {:?}", self.0);
        }
    }

    #[test]
    fn given_facilitators_that_come_and_go_when_each_does_its_next_then_all_have_their_part_and_are_still() {
        for number in [1, 2, 4, 5, 7, 12] {
            let books = books(number);
            let mut town = Town::default();
            for came in 1..=4u16 {
                town.0.insert(came, Vec::new());
                let held = town.settle(&books);
                let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
                assert!(most - least <= 1, "{number} books, {came} facilitators: {held:?}");
            }
            town.0.remove(&2);
            town.0.remove(&1);
            let held = town.settle(&books);
            assert!(held[0].abs_diff(held[1]) <= 1, "{held:?}");
        }
    }

    #[test]
    fn given_a_book_that_is_free_when_another_has_less_then_it_is_left_to_that_one_for_a_while() {
        let books = books(3);
        let mut town = Town([(1, vec![books[0], books[1]]), (2, Vec::new())].into());
        assert_eq!(next(&books, &town.nodes(1), |_| false), Next::default());
        assert_eq!(next(&books, &town.nodes(1), |_| true).take, [books[2]]);
        assert_eq!(next(&books, &town.nodes(2), |_| false).take, [books[2]]);
        // Nothing is given away while something is free, nor by who has only one more.
        town.0.insert(2, vec![books[2]]);
        assert_eq!(next(&books, &town.nodes(1), |_| false), Next::default());
        // Who is not counted does nothing.
        assert_eq!(next(&books, &[], |_| true), Next::default());
    }

    #[test]
    fn given_two_that_have_the_most_when_a_third_comes_then_one_of_them_gives_a_book_away() {
        let books = books(6);
        let town = Town([(1, books[..3].to_vec()), (2, books[3..].to_vec()), (3, Vec::new())].into());
        assert_eq!(next(&books, &town.nodes(1), |_| false).give, Some(books[2]));
        assert_eq!(next(&books, &town.nodes(2), |_| false), Next::default());
    }
}
