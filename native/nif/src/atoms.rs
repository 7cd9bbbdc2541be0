//! The names that cross the boundary.

rustler::atoms! {
    absolute_uri = "absoluteURI", abs_path, accept_failed, accept_paused, accept_resumed, accepted, active,
    any_star = "*", badarg, binary, buffer, bytes_per_slot, closed, conn, connections, dollar_inet = "$inet",
    dollar_megaphone = "$megaphone", dollar_notice = "$megaphone_notice", dollar_recv = "$megaphone_recv", dollar_start = "$megaphone_start",
    down = "DOWN", ealready, emsgsize, enomem, einval, error, exit_on_close, false_ = "false",
    high_watermark, http, http_bin, http_eoh, http_error, http_header, http_request, http_response, https,
    httph, httph_bin, inbound, infinity, is_http, is_open, keepalive, line, line_length, linger,
    list, listener, listeners, local, low_watermark, max_connections, megaphone_socket, mode, nodelay, none,
    not_owner, not_started, ok, once, outbound, owner, packet, packet_size, phase, raw, reactor_panic,
    reactors, reason, ready, recbuf, recv_cnt, recv_high_watermark, recv_max, recv_oct, reuseaddr, scheme,
    send_cnt, send_max, send_oct, send_pend, send_timeout, send_timeout_close, show_econnreset, shut_with_owner, sndbuf,
    socket, soon, start_timeout, tcp, tcp_closed, tcp_error, tcp_passive, tos, true_ = "true", undefined, wait,
    descriptor_limit, accept, starter, backlog, max_head, max_chunked_body, head_timeout, body_timeout,
    idle_timeout, handler_linger, zero_ends_request, delivery, log, read, write, read_write, paused,
    send_avg, recv_avg, xmlcdata, xmlel, xmlstreamelement, xmlstreamend, xmlstreamerror, xmlstreamraw,
    xmlstreamstart, bosh, bosh_hosts, dollar_gen_event = "$gen_event",
    dollar_stream_error = "$megaphone_stream_error", dollar_undelivered = "$megaphone_undelivered",
    forwarded_for, from, header_timeout, host, http_bind, lang, large, max_concat, max_inactivity, max_pause,
    max_stanza, origins, path, peer, ping_interval, response_headers, routes, stanza_timeout, transport,
    unlimited, more, register_failed, max_descriptor, websocket, websocket_timeout, xmpp, bytes, bytes_per_session, sessions,
    not_trusted, proxy_protocol, proxy_refused, timeout, local_awaits_input,
}
