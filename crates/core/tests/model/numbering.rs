//! Which states are the same: order numbers reduced to what is ever compared.

use crate::world::{NOW, Proxy, SERVERS, World, id};
use highwater_core::{Cluster, Numbered, Role, Seq, ServerId};

impl World {
    /// Only the order of events matters, and only between those that are ever compared. Numbers events by rank, and every
    /// probe by the last event before it that it is compared with, so that equal situations are equal states.
    pub(crate) fn renumber(&mut self) {
        self.session.resolve(&self.proxies[self.home].cluster);
        if let Some(other) = &mut self.other {
            other.session.resolve(&self.proxies[1 - self.home].cluster);
        }
        for (number, Proxy { cluster, probes, pool }) in self.proxies.iter_mut().enumerate() {
            let vouched = newest_probes(cluster);
            let primaries: Vec<bool> = (0..probes.len()).map(|server| is_primary(cluster, server)).collect();
            let is_primary = |server: ServerId| primaries[usize::from(server.0)];
            let (mut events, mut made) = (vec![], vec![]);
            if number == self.home {
                let (pending, read_on) = self.session.seqs_mut();
                events.extend(pending);
                made.extend(read_on);
                events.extend(self.arriving.iter_mut().map(|(_, arrived)| arrived));
                events.extend(self.strong.iter_mut().map(|(arrived, _)| arrived));
            } else if let Some(other) = &mut self.other {
                let (pending, read_on) = other.session.seqs_mut();
                events.extend(pending);
                made.extend(read_on);
                events.extend(other.arriving.iter_mut().map(|(_, arrived)| arrived));
            }
            let mut used = None;
            if let Some(under_way) = self.under_way.as_mut().filter(|_| number == self.home) {
                let connection = &mut under_way.pooled.connection;
                used = (connection.identity.role == Role::Standby).then_some(connection.server);
                made.push((connection.server, &mut connection.established));
            }
            made.extend(pool.iter_mut().map(|pooled| (pooled.connection.server, &mut pooled.connection.established)));
            for (server, established) in &mut made {
                // Once a probe has vouched for a connection, or the server is the primary, its age is of no account; but where a
                // statement is under way it tells the connection that it runs on from others.
                let is_of_no_account = is_primary(*server) || vouched[usize::from(server.0)] > **established;
                if used != Some(*server) && is_of_no_account {
                    **established = Seq(0);
                }
            }
            let happened: Vec<Seq> = events.iter().map(|seq| **seq).collect();
            let made_at: Vec<Seq> = made.iter().map(|(_, seq)| **seq).collect();
            let asking = probes
                .iter()
                .zip(&primaries)
                .filter_map(|(probe, is_primary)| probe.flight.as_ref().filter(|_| *is_primary));
            let asked: Vec<Seq> = asking.map(|flight| flight.sent).collect();
            let marks = Marks::new([&happened[..], &made_at[..], &asked[..]].concat());
            let probe = |server: ServerId, seq: Seq| match is_primary(server) {
                true if asked.contains(&seq) => marks.rank(seq),
                true => marks.above(seq, &happened),
                false => marks.above(seq, &[&happened[..], &made_at[..]].concat()),
            };
            cluster.renumber(|kind, seq| match kind {
                Numbered::Counter => marks.above(Seq(u64::MAX), &marks.0),
                Numbered::Probe(server) => probe(server, seq),
                Numbered::FormerProbe => marks.above(seq, &happened),
                Numbered::Arrival(_) => marks.above(seq, &asked),
                Numbered::Question(_) => Seq(0),
            });
            for (server, known) in probes.iter_mut().enumerate() {
                known.flight.iter_mut().for_each(|flight| flight.sent = probe(id(server), flight.sent));
            }
            let made = made.into_iter().map(|(_, seq)| seq);
            events.into_iter().chain(made).for_each(|seq| *seq = marks.rank(*seq));
        }
    }
}

/// The newest answered probe of each standby, 0 for none.
fn newest_probes(cluster: &mut Cluster) -> [Seq; SERVERS] {
    let mut answered = [Seq(0); SERVERS];
    let mut sent = answered;
    cluster.renumber(|kind, seq| {
        match kind {
            Numbered::Probe(server) => sent[usize::from(server.0)] = seq,
            Numbered::Arrival(server) => answered[usize::from(server.0)] = sent[usize::from(server.0)],
            Numbered::Counter | Numbered::FormerProbe | Numbered::Question(_) => {}
        }
        seq
    });
    answered
}

fn is_primary(cluster: &Cluster, server: usize) -> bool {
    cluster.server_view(id(server), NOW).and_then(|view| view.role()) == Some(Role::Primary)
}

/// The events that others are compared with, ascending.
struct Marks(Vec<Seq>);

impl Marks {
    fn new(mut seqs: Vec<Seq>) -> Marks {
        seqs.push(Seq(0));
        seqs.sort_unstable();
        seqs.dedup();
        Marks(seqs)
    }

    fn rank(&self, seq: Seq) -> Seq {
        Seq(2 * self.0.partition_point(|mark| *mark < seq) as u64)
    }

    /// A number right above the last of `compared` that is not later than `seq`.
    fn above(&self, seq: Seq, compared: &[Seq]) -> Seq {
        let last = compared.iter().filter(|mark| **mark <= seq).max();
        Seq(self.rank(last.copied().unwrap_or_default()).0 + 1)
    }
}
