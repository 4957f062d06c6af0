//! The kinds of events. The target of an event is the word for its kind, and each kind has a message
//! id, by which the journal finds all of a kind and its catalog explains it
//! (`config/journal/tierwall.catalog`). An id never changes and never comes to mean something else.

macro_rules! kinds {
    ($($(#[$about:meta])* $name:ident $word:literal $id:literal)*) => {
        $($(#[$about])* pub(crate) const $name: &str = $word;)*

        /// The word for each kind, and its message id.
        pub(crate) const ALL: &[(&str, &str)] = &[$(($word, $id)),*];
    };
}

kinds! {
    /// The policy is in the kernel, and the daemon serves.
    READY "ready"
        "6f92d383c2ac45d0ace5545fa284e582"
    /// The daemon ends; the table stays.
    ENDED "ended"
        "de59462d02fd48389167df832cec6b0c"
    /// The daemon can't start or go on.
    FAILED "failed"
        "68d0bf84c54d4dcf9222afad0e75b425"
    /// A fault in the daemon itself, which ends.
    FAULT "fault"
        "c32eb6a48cb14f41825f2fcbae57bcd8"
    /// A step doesn't end; the service manager is left to start another daemon.
    STUCK "stuck"
        "5a623130aa464409b9b192e7c72a55a4"
    /// The service manager can't be told something.
    SERVICE_MANAGER "service-manager"
        "1d9d1a73e7c640f3a52e656d596d6a9c"
    /// The socket that owned the table before can't be gone on with.
    SOCKET_NOT_KEPT "socket-not-kept"
        "004f6d67a1934fcda1cf25366390967b"
    /// The kernel took a batch.
    COMMITTED "committed"
        "a51662322b544934b249f635b6c092be"
    /// The kernel held what is wanted; nothing was sent.
    UNCHANGED "unchanged"
        "bac5c7db637b47fe8edadcdaff7ba315"
    /// Another program committed first; it is tried again.
    RACED "raced"
        "f7f0ed287f1c40948dcf53d104d23f2e"
    /// What the kernel holds isn't known for certain; it is read again.
    READ_BACK "read-back"
        "aac2412f471947979bc84994c3cc59b2"
    /// The kernel doesn't hold what is wanted.
    KERNEL_FAILED "kernel-failed"
        "89e382eb897d49aeafea0a80b7de1886"
    /// Connections older than the table are tracked.
    CONNECTIONS_KEPT "connections-kept"
        "b2393b1769874616adc3a1d48d3fcbfb"
    /// Connections older than the table aren't tracked and end.
    CONNECTIONS_LOST "connections-lost"
        "2d2dd16f5deb4485942d72db9262e994"
    /// Connections that stay couldn't be opened again.
    CANNOT_RECONNECT "cannot-reconnect"
        "7c0f9a1e5b3d4d16a2e84f70c95b6d23"
    /// A table that tierwall did not make was replaced on request.
    TABLE_REPLACED "table-replaced"
        "0c226cc5d8a64b39a879caf1ea54eddd"
    /// A table that tierwall did not make is in the way.
    FOREIGN_TABLE "foreign-table"
        "6ae2561d4baa450c9cfb12d36b471dc6"
    /// The table was taken away on request.
    TORN_DOWN "torn-down"
        "f4080f45dd1b469f8478a105fb395232"
    /// The policy files have errors; what was enforced stays.
    BAD_POLICY "bad-policy"
        "e1ef02ff99ce4eb0ba48caff2f723efc"
    /// A start couldn't apply the policy files and enforces something else.
    FELL_BACK "fell-back"
        "6678f56afb654cd8afc081476f51c965"
    /// A warning of the policy.
    POLICY_WARNING "policy-warning"
        "b1f47fe683e343c588c16e295d8c4af4"
    /// A list isn't taken as its file is: what it held before stays.
    LIST_HELD "list-held"
        "5bea4bacdce949618f0e7001dfa3b0cc"
    /// An edit waits for a reload.
    EDIT_WAITS "edit-waits"
        "d31c121493f34bc08d349345d35f5a8d"
    /// A step was refused since it would lock out an open session.
    REFUSED "refused"
        "71db209ae018466488a71d7bd07c5a8b"
    /// A step was made although an open session couldn't come again.
    SHUT_OUT "shut-out"
        "b6a0c5f17e5d4a0d8c4b1f0e9d3a7c52"
    /// Open sessions can't be listed, so nobody is guarded.
    GUARD_BLIND "guard-blind"
        "1822360698c749bfa08837d4773757ad"
    /// A change waits to be confirmed.
    WAITING "waiting"
        "6dd8af973d8b437d824d4a155c5544c0"
    /// A reload is refused while another change waits.
    ALREADY_WAITING "already-waiting"
        "e213b28bc935418c81d863a9ccc9fc9a"
    /// A change that waited was confirmed.
    CONFIRMED "confirmed"
        "7e1f9b393d8f414685fe63765a5ed3bc"
    /// A change that waited was gone back from.
    WENT_BACK "went-back"
        "f8415c93dcd24a97909f72399469009b"
    /// An earlier generation was asked for.
    ROLLED_BACK "rolled-back"
        "486aa646dc844c7eac2624be7cac6dda"
    /// A member was added by command.
    MEMBER_ADDED "member-added"
        "26bf2df2cc894ac29b2a140ef73cdb30"
    /// A member by command was removed.
    MEMBER_REMOVED "member-removed"
        "1ac224e44eb847f7a9a82c9584903f22"
    /// The files took over a member by command.
    MEMBER_PROMOTED "member-promoted"
        "b37b8483cefe45e39ba5c19c1cfbb8a2"
    /// The time of a member by command is over soon, and somebody is in by it.
    MEMBER_ENDS "member-ends"
        "a1f6de1c0b3f4c86b6f4c8a40dd1c9e7"
    /// The time of a member by command is over.
    MEMBER_EXPIRED "member-expired"
        "eeacba296b014a77a59deb3849406344"
    /// Another process changed the table; nothing is done about it.
    FOREIGN_CHANGE "foreign-change"
        "13fa0c753d2a4b1ea3408e0876e5c094"
    /// Another process changed the table; it is put back.
    PUT_BACK "put-back"
        "ff2210fdb42c42a38699368ebfff335b"
    /// The role changed with this server's addresses.
    ROLE_CHANGED "role-changed"
        "9b736f87e8a0409f91872e1703a876dd"
    /// A tier holds no address of this server any more; the last role holds for a while.
    ROLE_KEPT "role-kept"
        "bedd05fc21f947bea9fc862d405c268f"
    /// This server is in no tier, so only built-in traffic and allows of every server pass.
    IN_NO_TIER "in-no-tier"
        "ae755518ab4449238f5df5f0fe660607"
    /// A user isn't known now; the last user id holds.
    USER_KEPT "user-kept"
        "32cc2aec702340168493f9918bc649a1"
    /// This server's addresses can't be read.
    ADDRESSES_UNKNOWN "addresses-unknown"
        "c9ac0f1a1c0e46ff9661ebd90bcbbb0e"
    /// Something can't be watched for changes.
    NOT_WATCHING "not-watching"
        "9bd09a78568a4b91824095d36b23e764"
    /// It can be watched again.
    WATCHING_AGAIN "watching-again"
        "23ed92094f4e45b687d30e315c035df2"
    /// A connection was denied, or would have been.
    DENIED "denied"
        "a6cd46a2ff16447d9722add1ad0b11c7"
    /// How many more were, than have an entry.
    DENIED_MORE "denied-more"
        "4c522839f62744d2b919646d26c196bc"
    /// A change denies clearly more than what held before it.
    DENIED_SINCE "denied-since"
        "426e37883f4545669eedb4f20c91213a"
    /// Metrics are served.
    METRICS_SERVED "metrics-served"
        "3f5aa3af071e45b1a4aac129df83d17d"
    /// Metrics can't be served, or not to somebody.
    METRICS_NOT_SERVED "metrics-not-served"
        "d1ab01e981ea41bb9fd5ea60fac24802"
    /// Denied packets came too fast to be read.
    DENIED_LOST "denied-lost"
        "40ae1bd5f24843418b8ea6abdbcaa0b1"
    /// The control socket can't do something.
    CONTROL_SOCKET "control-socket"
        "0afc057d6c2140b4aa8ef5fab230ea02"
    /// Something that a restart needs can't be kept in the state directory.
    NOT_RECORDED "not-recorded"
        "6707344138f2402ab1d2a21689fcba9e"
    /// Something in the state directory can't be read.
    STATE_DAMAGED "state-damaged"
        "daeb9306d875423799b8276a645b560e"
}
