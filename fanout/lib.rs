//! fanout spreads UDP datagrams over several receivers.
