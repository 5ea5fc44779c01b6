package fabric

import (
	"context"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialContext connects over "tcp" or "udp" (also with the suffix 4 or 6) to an
// "address:port" that is no name, from a fresh local port. Errors are those that
// the net package would give on a real host: errors.Is finds ECONNREFUSED,
// ECONNRESET, EHOSTUNREACH, ENETUNREACH and ETIMEDOUT, the context's error,
// os.ErrDeadlineExceeded, and net.ErrClosed after our own Close. A connection over
// UDP is a net.PacketConn as well. As on a real host, of all ICMP errors only "port
// unreachable" reaches a UDP socket (RFC 1122, 4.1.3.3; Linux, udp_err).
func (v *Vantage) DialContext(ctx context.Context, network, to string) (net.Conn, error) {
	return v.DialFrom(ctx, network, netip.AddrPort{}, to)
}

// DialFrom is DialContext from a local address and port of one's choice; what is
// zero of them is chosen by the stack.
func (v *Vantage) DialFrom(ctx context.Context, network string, local netip.AddrPort, to string) (net.Conn, error) {
	remote, base, err := parseAddress("dial", network, to)
	if err != nil {
		return nil, err
	}
	addr := net.Addr(net.TCPAddrFromAddrPort(remote))
	transport := tcp.ProtocolNumber
	if base == "udp" {
		addr, transport = net.UDPAddrFromAddrPort(remote), udp.ProtocolNumber
	}
	wq := new(waiter.Queue)
	ep, err := v.connect(ctx, wq, transport, unmap(local), remote)
	if err != nil {
		if v.isClosed() {
			err = net.ErrClosed
		}
		return nil, &net.OpError{Op: "dial", Net: network, Addr: addr, Err: err}
	}
	if base == "udp" {
		return newUDPConn(v, wq, ep), nil
	}
	c := newTCPConn(v, gonet.NewTCPConn(wq, ep))
	c.options = ep.SocketOptions()
	return c, nil
}

// connect is what gonet's dial functions do, but closes the endpoint on every
// failure, and ends with the vantage.
func (v *Vantage) connect(ctx context.Context, wq *waiter.Queue, transport tcpip.TransportProtocolNumber, local, remote netip.AddrPort) (_ tcpip.Endpoint, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ep, terr := v.stack.NewEndpoint(transport, protocolOf(remote.Addr()), wq)
	if terr != nil {
		return nil, errnoOf(terr.String())
	}
	defer func() {
		if err != nil {
			ep.Close()
		}
	}()
	if local != (netip.AddrPort{}) {
		if terr := ep.Bind(fullAddress(local)); terr != nil {
			return nil, errnoOf(terr.String())
		}
	}
	events, connected := waiter.NewChannelEntry(waiter.WritableEvents)
	wq.EventRegister(&events)
	defer wq.EventUnregister(&events)
	terr = ep.Connect(fullAddress(remote))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-connected:
			terr = ep.LastError()
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-v.done:
			return nil, net.ErrClosed
		}
	}
	if terr != nil {
		return nil, errnoOf(terr.String())
	}
	if v.isClosed() { // Close may have looked for endpoints before this one was there
		return nil, net.ErrClosed
	}
	return ep, nil
}

// Listen accepts TCP connections ("tcp", "tcp4", "tcp6") on an "address:port" of
// the vantage; 0.0.0.0 and [::] stand for all its addresses, port 0 for a free one.
func (v *Vantage) Listen(network, at string) (net.Listener, error) {
	local, base, err := parseAddress("listen", network, at)
	if err != nil {
		return nil, err
	}
	if base != "tcp" {
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	l, err := gonet.ListenTCP(v.stack, fullAddress(local), protocolOf(local.Addr()))
	if err != nil {
		return nil, translate("listen", network, err)
	}
	return newListener(v, l), nil
}

// ListenPacket receives UDP datagrams ("udp", "udp4", "udp6") on an "address:port"
// of the vantage, which is understood as by Listen.
func (v *Vantage) ListenPacket(network, at string) (net.PacketConn, error) {
	local, base, err := parseAddress("listen", network, at)
	if err != nil {
		return nil, err
	}
	if base != "udp" {
		return nil, &net.OpError{Op: "listen", Net: network, Err: net.UnknownNetworkError(network)}
	}
	wq := new(waiter.Queue)
	ep, terr := v.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(local.Addr()), wq)
	if terr == nil {
		if terr = ep.Bind(fullAddress(local)); terr != nil {
			ep.Close()
		}
	}
	if terr != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.UDPAddrFromAddrPort(local), Err: errnoOf(terr.String())}
	}
	return newUDPConn(v, wq, ep), nil
}

// parseAddress reads an "address:port" and says whether the network is "tcp" or "udp".
func parseAddress(op, network, text string) (at netip.AddrPort, base string, err error) {
	at, err = netip.ParseAddrPort(text)
	if err != nil {
		return at, "", &net.OpError{Op: op, Net: network, Err: err}
	}
	at = unmap(at)
	ok := false
	switch network {
	case "tcp", "udp":
		ok = true
	case "tcp4", "udp4":
		ok = at.Addr().Is4()
	case "tcp6", "udp6":
		ok = at.Addr().Is6()
	}
	if !ok {
		return at, "", &net.OpError{Op: op, Net: network, Err: net.UnknownNetworkError(network + " for " + text)}
	}
	return at, network[:3], nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

// fullAddress leaves out what is zero, so that the stack chooses it.
func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	full := tcpip.FullAddress{Port: a.Port()}
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() {
		full.Addr = address(a.Addr())
	}
	return full
}
