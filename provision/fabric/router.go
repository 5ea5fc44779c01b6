package fabric

import (
	"fmt"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Router forwards IPv4 and IPv6 between the switches that it is attached to. It
// answers ARP and neighbour solicitations, counts hops down and sends ICMP
// errors: what has no route is refused at once, not left to time out.
type Router struct {
	name string

	mu    sync.Mutex
	stack *stack.Stack
	ports []*Port
}

// NewRouter makes a router without interfaces.
func NewRouter(name string) *Router { return &Router{name: name} }

// AddInterface attaches the router to a switch. The address of each prefix is the
// router's own there; the network is reachable through it from then on.
func (r *Router) AddInterface(sw *Switch, prefixes ...netip.Prefix) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stack == nil {
		s, err := newStack()
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		for _, protocol := range []tcpip.NetworkProtocolNumber{ipv4.ProtocolNumber, ipv6.ProtocolNumber} {
			if err := s.SetForwardingDefaultAndAllNICs(protocol, true); err != nil {
				return fmt.Errorf("%s: turn forwarding on: %s", r.name, err)
			}
		}
		r.stack = s
	}
	e, link := plug(sw, r.name, deriveMAC("router", sw.name, r.name), false)
	r.ports = append(r.ports, e.port)
	if err := addNIC(r.stack, tcpip.NICID(len(r.ports)), link, prefixes); err != nil {
		return fmt.Errorf("%s on %s: %w", r.name, sw.name, err)
	}
	return nil
}

// Port is the router's port on a switch, to impair or filter what passes there;
// nil if it has none.
func (r *Router) Port(sw *Switch) *Port {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.ports {
		if p.sw == sw {
			return p
		}
	}
	return nil
}

// Close detaches the router from every switch.
func (r *Router) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.ports {
		p.Close()
	}
	if r.stack != nil {
		r.stack.Close()
		r.stack.Wait()
	}
}

// ForgetNeighbors empties the router's ARP and neighbour caches.
func (r *Router) ForgetNeighbors() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.ports {
		forgetNeighbors(r.stack, tcpip.NICID(i+1))
	}
}
