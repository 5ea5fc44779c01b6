package fabric

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
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
	once  sync.Once
	done  chan struct{} // closed by Close, before anything is taken down
}

const vantageNIC tcpip.NICID = 1

// NewVantage attaches a vantage to a switch.
func NewVantage(sw *Switch, cfg VantageConfig) (*Vantage, error) {
	if cfg.MAC == nil {
		cfg.MAC = deriveMAC("vantage", sw.name, cfg.Name)
	}
	if len(cfg.MAC) != len(mac{}) || cfg.MAC[0]&1 != 0 {
		return nil, fmt.Errorf("vantage %s: %q is no hardware address of one Ethernet station", cfg.Name, cfg.MAC)
	}
	s, err := newStack()
	if err != nil {
		return nil, fmt.Errorf("vantage %s: %w", cfg.Name, err)
	}
	e, link := plug(sw, cfg.Name, cfg.MAC, true)
	v := &Vantage{cfg: cfg, stack: s, port: e.port, done: make(chan struct{})}
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

// Close detaches the vantage, as if its cable was pulled: its connections end here
// with net.ErrClosed, and their peers are not told. It may be called twice.
func (v *Vantage) Close() {
	v.once.Do(func() {
		close(v.done)
		v.port.Close()
		v.stack.Close()
		v.stack.Wait()
	})
}

func (v *Vantage) isClosed() bool {
	select {
	case <-v.done:
		return true
	default:
		return false
	}
}

// Ping sends one ICMP echo request (RFC 792, RFC 4443) and returns the time until
// its reply, the resolution of the neighbour included. It waits for as long as the
// context allows: the netstack's ICMP sockets are not told of "unreachable".
func (v *Vantage) Ping(ctx context.Context, to netip.Addr) (time.Duration, error) {
	to = to.Unmap()
	transport, protocol := icmp.ProtocolNumber4, ipv4.ProtocolNumber
	if to.Is6() {
		transport, protocol = icmp.ProtocolNumber6, ipv6.ProtocolNumber
	}
	fail := func(err error) (time.Duration, error) {
		if v.isClosed() {
			err = net.ErrClosed
		}
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
			case <-v.done:
				return fail(net.ErrClosed)
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

// ForgetNeighbors empties the vantage's ARP and neighbour caches.
func (v *Vantage) ForgetNeighbors() { forgetNeighbors(v.stack, vantageNIC) }

func forgetNeighbors(s *stack.Stack, nic tcpip.NICID) {
	for _, protocol := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
		_ = s.ClearNeighbors(nic, protocol) // it fails for a NIC that is not there only
	}
}
