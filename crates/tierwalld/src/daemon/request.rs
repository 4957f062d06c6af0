//! What a client asks for: answered at once from what the loop knows, or queued as work.

use super::Daemon;
use crate::clock;
use crate::denials;
use crate::members::CommandMember;
use crate::metrics::Reader;
use crate::reply::Reply;
use crate::step::Asked;
use crate::work::Work;
use control::{
    Failure, FailureKind, Origin, Reload, Request, Requester, Response, Rollback, Status,
};
use policy::ConfirmTime;

impl Daemon {
    /// The state after the last step, and what the state directory lacks by now.
    pub(super) fn status_now(&self) -> Status {
        let is_held_back = self.status.differs.is_some();
        let unrecorded = self.debts.unrecorded(self.since, is_held_back);
        Status { unrecorded, ..self.status.clone() }
    }

    pub(super) fn request(
        &mut self,
        request: Request,
        (by, origin): (Requester, Origin),
        reply: Reply,
    ) {
        let is_root = by.uid == 0;
        let asked = Asked { by: Some(by), origin, over: None };
        let work = match request {
            Request::Status => {
                let denials = denials::summary(&self.denials, clock::now());
                let after_change = self.denials.after_change();
                let mut status = Status { denials, after_change, ..self.status_now() };
                if !is_root {
                    status.problem = self.places.clone();
                    status.held_lists.clone_from(&self.held_places);
                }
                let _ = reply.send(Response::Status(Box::new(status)));
                return;
            }
            Request::Denied { by, seconds, limit, order, seen_since } => {
                let denials = self.denials.clone();
                let asked = denials::Asked { by, seconds, limit, order, seen_since };
                tokio::task::spawn_blocking(move || {
                    let answer = denials::answer(&denials, asked, clock::now());
                    let _ = reply.send(Response::Denied(Box::new(answer)));
                });
                return;
            }
            Request::Metrics => {
                let snapshot = self.known.snapshot(&self.status_now(), &self.denials);
                tokio::task::spawn_blocking(move || {
                    let _ = reply.send(Response::Metrics(snapshot.render(Reader::Scrape)));
                });
                return;
            }
            Request::Members { tier } => {
                let now = clock::now();
                let mut members = self.members.clone();
                members.retain(|member| member.until.is_none_or(|until| until > now));
                members.retain(|member| tier.as_ref().is_none_or(|tier| *tier == member.tier));
                let _ = reply.send(Response::Members(members));
                return;
            }
            Request::Reload(Reload { force, confirm, replace }) => match time_to_confirm(confirm) {
                Ok(time) => Work::Reload { force, time, replace },
                Err(failure) => {
                    let _ = reply.send(Response::Failed(failure));
                    return;
                }
            },
            Request::Rollback(Rollback { generation, force, confirm }) => {
                match time_to_confirm(confirm) {
                    Ok(time) => Work::Rollback { generation, force, time },
                    Err(failure) => {
                        let _ = reply.send(Response::Failed(failure));
                        return;
                    }
                }
            }
            Request::Confirm { force } => Work::Confirm { force },
            Request::Guard => Work::Guard,
            Request::History => Work::History,
            Request::Difference { from, to } => Work::Difference { from, to },
            Request::Teardown => Work::Teardown,
            Request::Takeover { force } => Work::Takeover { force },
            Request::AddMember { tier, member, seconds, reason } => {
                let added = clock::now();
                let until = seconds.map(|seconds| added.saturating_add(seconds));
                let by = asked.by.as_ref().map_or(0, |by| by.uid);
                Work::AddMember(CommandMember { tier, member, added, until, by, reason })
            }
            Request::RemoveMember { tier, member, force } => {
                Work::RemoveMember { tier, member, force }
            }
            Request::PromotedMember { tier, member } => Work::Promoted { tier, member },
        };
        self.queue.push_asked(work, asked, Some(reply));
    }
}

/// The time that a client asks for.
fn time_to_confirm(seconds: Option<u32>) -> Result<Option<ConfirmTime>, Failure> {
    seconds
        .map(ConfirmTime::try_from)
        .transpose()
        .map_err(|error| Failure { kind: FailureKind::BadRequest, message: error.to_string() })
}
