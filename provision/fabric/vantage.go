package fabric

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// VantageConfig describes a vantage.
type VantageConfig struct {
	Name string
	// MAC is the hardware address; nil derives one from the name.
	MAC net.HardwareAddr
	// Addrs are its addresses with their networks' lengths, at most one of each family.
	Addrs []netip.Prefix
	// Gateway4 and Gateway6 lead to everything else; the zero value is no way there.
	Gateway4, Gateway6 netip.Addr
}

// Vantage is a place to speak from: a host of its own on a switch, with its own
// MAC address and neighbour cache. Its methods are safe for concurrent use.
type Vantage struct {
	cfg   VantageConfig
	stack *stack.Stack
	port  *Port
	pings atomic.Uint32
}

const vantageNIC tcpip.NICID = 1

// NewVantage attaches a vantage to a switch.
func NewVantage(sw *Switch, cfg VantageConfig) (*Vantage, error) {
	if cfg.MAC == nil {
		cfg.MAC = deriveMAC("vantage", cfg.Name)
	}
	s, err := newStack()
	if err != nil {
		return nil, fmt.Errorf("vantage %s: %w", cfg.Name, err)
	}
	e, link := plug(sw, cfg.Name, cfg.MAC)
	v := &Vantage{cfg: cfg, stack: s, port: e.port}
	if err := addNIC(s, vantageNIC, link, cfg.Addrs); err != nil {
		v.Close()
		return nil, fmt.Errorf("vantage %s: %w", cfg.Name, err)
	}
	if cfg.Gateway4.IsValid() {
		s.AddRoute(tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: address(cfg.Gateway4), NIC: vantageNIC})
	}
	if cfg.Gateway6.IsValid() {
		s.AddRoute(tcpip.Route{Destination: header.IPv6EmptySubnet, Gateway: address(cfg.Gateway6), NIC: vantageNIC})
	}
	return v, nil
}

// Name is the vantage's name.
func (v *Vantage) Name() string { return v.cfg.Name }

// MAC is the vantage's hardware address.
func (v *Vantage) MAC() net.HardwareAddr { return slices.Clone(v.cfg.MAC) }

// Port is where the vantage is attached.
func (v *Vantage) Port() *Port { return v.port }

// Addr4 is the IPv4 address; the zero Addr if there is none.
func (v *Vantage) Addr4() netip.Addr { return v.addr(netip.Addr.Is4) }

// Addr6 is the IPv6 address; the zero Addr if there is none.
func (v *Vantage) Addr6() netip.Addr { return v.addr(netip.Addr.Is6) }

func (v *Vantage) addr(family func(netip.Addr) bool) netip.Addr {
	for _, p := range v.cfg.Addrs {
		if family(p.Addr()) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// Close detaches the vantage; its connections end.
func (v *Vantage) Close() {
	v.port.Close()
	v.stack.Close()
	v.stack.Wait()
}

// DialContext connects over "tcp" or "udp" (also with the suffix 4 or 6) to an
// "address:port" that is no name, from a fresh local port. Errors are those that
// the net package would give on a real host: errors.Is finds ECONNREFUSED,
// EHOSTUNREACH and so on, and os.ErrDeadlineExceeded.
func (v *Vantage) DialContext(ctx context.Context, network, to string) (net.Conn, error) {
	return v.DialFrom(ctx, network, netip.AddrPort{}, to)
}

// DialFrom is DialContext from a local address and port of one's choice; zero
// values are chosen by the stack.
func (v *Vantage) DialFrom(ctx context.Context, network string, local netip.AddrPort, to string) (net.Conn, error) {
	remote, err := netip.ParseAddrPort(to)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	base, err := baseNetwork(network, remote.Addr())
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Addr: udpAddr(remote), Err: ctx.Err()}
	}
	if base == "udp" {
		return v.dialUDP(local, remote)
	}
	conn, err := gonet.DialTCPWithBind(ctx, v.stack, fullAddress(local), fullAddress(remote), protocolOf(remote.Addr()))
	if err != nil {
		return nil, translate("dial", network, err)
	}
	return &tcpConn{TCPConn: conn}, nil
}

func baseNetwork(network string, to netip.Addr) (string, error) {
	ok := false
	switch network {
	case "tcp", "udp":
		ok = true
	case "tcp4", "udp4":
		ok = to.Is4()
	case "tcp6", "udp6":
		ok = to.Is6()
	}
	if !ok {
		return "", &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network + " for " + to.String())}
	}
	return network[:3], nil
}

// Listen accepts TCP connections on an "address:port" of the vantage.
func (v *Vantage) Listen(network, at string) (net.Listener, error) {
	local, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	l, err := gonet.ListenTCP(v.stack, fullAddress(local), protocolOf(local.Addr()))
	if err != nil {
		return nil, translate("listen", network, err)
	}
	return l, nil
}

// ListenPacket receives UDP datagrams on an "address:port" of the vantage.
func (v *Vantage) ListenPacket(network, at string) (net.PacketConn, error) {
	local, err := netip.ParseAddrPort(at)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	full := fullAddress(local)
	c, err := gonet.DialUDP(v.stack, &full, nil, protocolOf(local.Addr()))
	if err != nil {
		return nil, translate("listen", network, err)
	}
	return c, nil
}

func (v *Vantage) dialUDP(local, remote netip.AddrPort) (net.Conn, error) {
	wq := new(waiter.Queue)
	ep, terr := v.stack.NewEndpoint(udp.ProtocolNumber, protocolOf(remote.Addr()), wq)
	if terr != nil {
		return nil, translate("dial", "udp", errors.New(terr.String()))
	}
	if local.IsValid() {
		terr = ep.Bind(fullAddress(local))
	}
	if terr == nil {
		terr = ep.Connect(fullAddress(remote))
	}
	if terr != nil {
		ep.Close()
		return nil, translate("dial", "udp", errors.New(terr.String()))
	}
	return newUDPConn(wq, ep), nil
}

// Ping sends one ICMP echo request (RFC 792, RFC 4443) and returns the time until its reply.
func (v *Vantage) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	transport, protocol := icmp.ProtocolNumber4, ipv4.ProtocolNumber
	if to.Is6() {
		transport, protocol = icmp.ProtocolNumber6, ipv6.ProtocolNumber
	}
	fail := func(err error) (time.Duration, error) {
		return 0, fmt.Errorf("ping %s from %s: %w", to, v.cfg.Name, err)
	}
	var wq waiter.Queue
	ep, terr := v.stack.NewEndpoint(transport, protocol, &wq)
	if terr != nil {
		return fail(errnoOf(terr.String()))
	}
	defer ep.Close()
	events, notify := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventErr)
	wq.EventRegister(&events)
	defer wq.EventUnregister(&events)
	if terr := ep.Connect(tcpip.FullAddress{Addr: address(to)}); terr != nil {
		return fail(errnoOf(terr.String()))
	}
	sequence := uint16(v.pings.Add(1))
	payload := binary.BigEndian.AppendUint64(nil, rand.Uint64())
	request := make([]byte, header.ICMPv4MinimumSize, header.ICMPv4MinimumSize+len(payload))
	request[0] = byte(header.ICMPv4Echo)
	if to.Is6() {
		request[0] = byte(header.ICMPv6EchoRequest)
	}
	// The identifier is the endpoint's, set by the stack as its "port".
	binary.BigEndian.PutUint16(request[6:], sequence)
	request = append(request, payload...)
	started := time.Now()
	if _, terr := ep.Write(bytes.NewReader(request), tcpip.WriteOptions{}); terr != nil {
		return fail(errnoOf(terr.String()))
	}
	for {
		var reply bytes.Buffer
		_, terr := ep.Read(&reply, tcpip.ReadOptions{})
		switch terr.(type) {
		case nil:
			if bytes.HasSuffix(reply.Bytes(), payload) {
				return time.Since(started), nil
			}
		case *tcpip.ErrWouldBlock:
			select {
			case <-notify:
			case <-ctx.Done():
				return fail(context.Cause(ctx))
			}
		default:
			return fail(errnoOf(terr.String()))
		}
	}
}

// Neighbor is a line of a vantage's ARP or neighbour cache.
type Neighbor struct {
	Addr  netip.Addr
	MAC   net.HardwareAddr
	State string // as RFC 4861, 7.3.2, names it
}

// Neighbors returns the vantage's own ARP and neighbour cache, by address.
func (v *Vantage) Neighbors() ([]Neighbor, error) {
	var all []Neighbor
	for _, protocol := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		entries, terr := v.stack.Neighbors(vantageNIC, protocol)
		if terr != nil {
			return nil, fmt.Errorf("neighbours of %s: %s", v.cfg.Name, terr)
		}
		for _, e := range entries {
			a, ok := netip.AddrFromSlice(e.Addr.AsSlice())
			if !ok {
				continue
			}
			all = append(all, Neighbor{Addr: a, MAC: net.HardwareAddr(e.LinkAddr), State: e.State.String()})
		}
	}
	slices.SortFunc(all, func(a, b Neighbor) int { return a.Addr.Compare(b.Addr) })
	return all, nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is6() {
		return ipv6.ProtocolNumber
	}
	return ipv4.ProtocolNumber
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	if !a.IsValid() {
		return tcpip.FullAddress{}
	}
	full := tcpip.FullAddress{Port: a.Port()}
	if !a.Addr().IsUnspecified() {
		full.Addr = address(a.Addr())
	}
	return full
}

func udpAddr(a netip.AddrPort) net.Addr { return net.UDPAddrFromAddrPort(a) }
