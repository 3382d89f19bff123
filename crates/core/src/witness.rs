//! The witness check: how far everything a standby has shown is visible on the primary too.
//!
//! A standby may show a commit before the primary does: the log is shipped when it is flushed, and the committing
//! transaction leaves the primary's list of running ones a little later. So a session that read on a standby may go to
//! the primary only where the primary has demonstrably caught up with what standbys show.
//!
//! ```text
//! standby:  replay v, then in a later statement snapshot xmax xr        (received)
//! primary:  snapshot S                                                  (probe sent after that)
//! B = transactions below xr that S does not show
//! B empty                              -> all that the standby had at v is visible on the primary
//! none of B is committed on the standby-> the same: what it had at v does not contain them
//! otherwise                            -> wait for a snapshot that shows the committed ones
//! ```
//!
//! The question about B must be asked on the standby's probe connection of the same epoch: only there is it certain that
//! the standby has not gone back behind v.

use crate::{Cluster, Epoch, Lsn, MvccSnapshot, PrimaryAnswer, Seq, ServerId};

/// More open transactions than this are not asked about; the next pair of answers may well leave fewer. Bounds the text
/// of the question at a few dozen kilobytes.
const QUESTION_XIDS_MAX: usize = 2048;

/// What the shell should ask a standby, on its probe connection: which of `xids` are committed there, by
/// `pg_xact_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// Names the question in [`Cluster::on_witness_answer`]: an answer to an older question proves nothing.
    pub id: Seq,
    /// The probe connection the question must be asked on.
    pub epoch: Epoch,
    /// Full transaction ids, ascending, never empty.
    pub xids: &'a [u64],
}

/// The transactions that keep the standby's position `replay` from being visible on the primary.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Doubt {
    /// The primary's probe that raised it.
    pub(crate) id: Seq,
    replay: Lsn,
    xids: Vec<u64>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Progress {
    /// A later snapshot may replace the doubt by a newer one.
    Open,
    /// Handed to the shell: kept until the answer comes, so that it is not outrun by snapshots for ever.
    Asked,
    /// The standby shows all that are left: only a snapshot of the primary can help.
    Committed,
}

impl Cluster {
    /// What to ask this standby so that the position it had becomes known to be visible on the primary, if anything.
    /// Only worth asking while somebody waits for it.
    pub fn witness_question(&mut self, server: ServerId) -> Option<Question<'_>> {
        let live = self.live_mut(server)?;
        let doubt = live.doubt.as_mut().filter(|doubt| doubt.progress != Progress::Committed)?;
        doubt.progress = Progress::Asked;
        Some(Question { id: doubt.id, epoch: live.epoch, xids: &doubt.xids })
    }

    /// The check without a standby, for what a lost one has shown: on this probe connection of the primary the insert
    /// position was read, *then* a transaction id was assigned, and now no older transaction is running any more. Every
    /// commit up to that position belongs to an older transaction, so it is visible. Stands still while an older writing
    /// transaction runs, which is why it is the last resort.
    pub fn on_settled(&mut self, server: ServerId, epoch: Epoch, insert: Lsn) {
        if self.primary() == Some(server) && self.live_in(server, epoch).is_some() {
            self.raise_visible_through(insert);
        }
    }

    /// The standby's answer to a question: those of its transactions that are committed there. An answer to another
    /// question or of an ended epoch is ignored.
    pub fn on_witness_answer(&mut self, server: ServerId, epoch: Epoch, question: Seq, committed: &[u64]) {
        let Some(live) = self.live_mut(server).filter(|live| live.epoch == epoch) else { return };
        let Some(doubt) = live.doubt.as_mut().filter(|doubt| doubt.id == question) else { return };
        doubt.xids.retain(|xid| committed.contains(xid));
        doubt.progress = Progress::Committed;
        if doubt.xids.is_empty() {
            let replay = doubt.replay;
            live.doubt = None;
            self.raise_visible_through(replay);
        }
    }

    /// A snapshot of the primary, by a probe sent at `sent`, against everything standbys had answered before that.
    pub(crate) fn compare_with_standbys(&mut self, sent: Seq, answer: &PrimaryAnswer) {
        let standbys: Vec<ServerId> = self.standbys().map(|(server, _)| server).collect();
        for server in standbys {
            if let Some(lsn) = self.shown_by(server, sent, &answer.snapshot) {
                self.raise_visible_through(lsn);
            }
        }
    }

    /// The position of this standby which the snapshot proves visible, if it proves any; leaves a doubt otherwise.
    fn shown_by(&mut self, server: ServerId, sent: Seq, snapshot: &MvccSnapshot) -> Option<Lsn> {
        let seen = self.visible_through().map(|watermark| watermark.lsn);
        let live = self.live_mut(server)?;
        live.doubt = live.doubt.take().filter(|doubt| Some(doubt.replay) > seen);
        let settled = live.doubt.as_mut().and_then(|doubt| doubt.settled_by(snapshot));
        if settled.is_some() {
            live.doubt = None;
        }
        let Some((replay, sighting)) = live.trail.sighted_before(sent) else { return settled };
        if seen.max(settled) >= Some(replay) {
            return settled;
        }
        match unseen_below(snapshot, sighting.xmax) {
            Some(xids) if xids.is_empty() => {
                live.doubt = None;
                Some(replay)
            }
            Some(xids) => {
                if live.doubt.as_ref().is_none_or(|doubt| doubt.progress == Progress::Open) {
                    live.doubt = Some(Doubt { id: sent, replay, xids, progress: Progress::Open });
                }
                settled
            }
            None => settled,
        }
    }
}

impl Doubt {
    /// Drops what the snapshot shows; the position, once nothing is left.
    fn settled_by(&mut self, snapshot: &MvccSnapshot) -> Option<Lsn> {
        self.xids.retain(|xid| !snapshot.shows(*xid));
        self.xids.is_empty().then_some(self.replay)
    }
}

/// The transactions below `xmax` which the snapshot does not show; `None` when there are too many to ask about.
fn unseen_below(snapshot: &MvccSnapshot, xmax: u64) -> Option<Vec<u64>> {
    let later = snapshot.xmax..xmax.max(snapshot.xmax);
    let running = snapshot.xip.iter().copied().filter(|xid| *xid < xmax);
    let bounded = later.end - later.start <= QUESTION_XIDS_MAX as u64 && snapshot.xip.len() <= QUESTION_XIDS_MAX;
    bounded.then(|| running.chain(later).collect())
}
