package fabric

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/time/rate"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// endpoint joins a port of a switch and a NIC of a netstack. It carries whole
// Ethernet frames; ethernet.Endpoint, which wraps it, makes and reads their headers.
type endpoint struct {
	port *Port
	mac  tcpip.LinkAddress
	host bool // it forwards nothing: what it receives is for itself

	mu         sync.RWMutex
	dispatcher stack.NetworkDispatcher
}

var _ stack.LinkEndpoint = (*endpoint)(nil)

// plug attaches a NIC of a host or of a router to a switch.
func plug(sw *Switch, name string, hw net.HardwareAddr, host bool) (*endpoint, stack.LinkEndpoint) {
	e := &endpoint{mac: tcpip.LinkAddress(hw), host: host}
	e.port = sw.Attach(name, e.receive)
	return e, ethernet.New(e)
}

func (e *endpoint) receive(frames [][]byte) {
	e.mu.RLock()
	d := e.dispatcher
	e.mu.RUnlock()
	if d == nil {
		return
	}
	for _, f := range frames {
		dst := tcpip.LinkAddress(f[0:6])
		if dst[0]&1 == 0 && dst != e.mac {
			continue // flooded, and not for us: what a network card filters
		}
		if e.host {
			f = readableUnreachable(f)
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(f)})
		d.DeliverNetworkPacket(0, pkt)
		pkt.DecRef()
	}
}

// readableUnreachable returns a frame as it is, but an ICMPv6 "destination
// unreachable" for a reason that the netstack does not know (it knows no route and
// no port, and would let a connection time out for all others) as one for "no route".
func readableUnreachable(frame []byte) []byte {
	if !isICMPv6(frame) || frame[icmpTypeAt] != layers.ICMPv6TypeDestinationUnreachable {
		return frame
	}
	code := frame[icmpTypeAt+1]
	if code == layers.ICMPv6CodeNoRouteToDst || code == layers.ICMPv6CodePortUnreachable || len(frame) < icmpTypeAt+header.ICMPv6MinimumSize {
		return frame
	}
	frame = slices.Clone(frame) // others see the original
	icmp := header.ICMPv6(frame[icmpTypeAt:])
	icmp.SetCode(header.ICMPv6NetworkUnreachable)
	// The checksum is that of before, less the code (RFC 1624).
	sum := checksum.Combine(^icmp.Checksum(), ^uint16(code))
	icmp.SetChecksum(^sum)
	return frame
}

// WritePackets implements stack.LinkWriter.
func (e *endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		frame := make([]byte, 0, pkt.Size())
		for _, part := range pkt.AsSlices() {
			frame = append(frame, part...)
		}
		e.port.Send(frame)
	}
	return pkts.Len(), nil
}

// MTU includes the Ethernet header, which the wrapper takes off.
func (e *endpoint) MTU() uint32                             { return MTU + ethernetHeader }
func (e *endpoint) SetMTU(uint32)                           {}
func (e *endpoint) MaxHeaderLength() uint16                 { return 0 }
func (e *endpoint) LinkAddress() tcpip.LinkAddress          { return e.mac }
func (e *endpoint) SetLinkAddress(tcpip.LinkAddress)        {}
func (e *endpoint) Wait()                                   {}
func (e *endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (e *endpoint) AddHeader(*stack.PacketBuffer)           {}
func (e *endpoint) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (e *endpoint) Close()                                  {}
func (e *endpoint) SetOnCloseAction(func())                 {}
func (e *endpoint) Capabilities() stack.LinkEndpointCapabilities {
	// Frames cross memory only: verifying their checksums would find nothing.
	return stack.CapabilityRXChecksumOffload
}

// Attach implements stack.NetworkLinkEndpoint.
func (e *endpoint) Attach(d stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dispatcher = d
}

// IsAttached implements stack.NetworkLinkEndpoint.
func (e *endpoint) IsAttached() bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.dispatcher != nil
}

// TCP buffers: the bandwidth-delay product of a gigabit at 30 ms, which is more
// than any link that a scenario models.
const tcpBuffer, tcpBufferMax = 1 << 20, 4 << 20

// newStack makes an IPv4 and IPv6 stack without NICs.
func newStack() (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{newARP, ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})
	sack := tcpip.TCPSACKEnabled(true)
	nagle := tcpip.TCPDelayEnabled(false) // as Go's net package has it
	// Without RACK: its probes (RFC 8985, 7) fire within the round trips of a link
	// that is only memory, and retransmit what was never lost. Captures must show no
	// retransmission that the network did not cause. SACK recovers what is lost.
	rack := tcpip.TCPRecovery(0)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcpBuffer, Max: tcpBufferMax}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: tcpBuffer, Max: tcpBufferMax}
	for _, option := range []tcpip.SettableTransportProtocolOption{&sack, &nagle, &rack, &moderate, &receive, &send} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return nil, fmt.Errorf("set up TCP: %s", err)
		}
	}
	// An outage probe must see every "unreachable", not those that a limit lets through.
	s.SetICMPLimit(rate.Inf)
	return s, nil
}

// addNIC gives a stack a NIC with addresses and the routes to their networks.
func addNIC(s *stack.Stack, id tcpip.NICID, link stack.LinkEndpoint, prefixes []netip.Prefix) error {
	if err := s.CreateNIC(id, link); err != nil {
		return fmt.Errorf("create a NIC: %s", err)
	}
	for _, p := range prefixes {
		protocol := ipv4.ProtocolNumber
		if p.Addr().Is6() {
			protocol = ipv6.ProtocolNumber
		}
		err := s.AddProtocolAddress(id, tcpip.ProtocolAddress{
			Protocol:          protocol,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: address(p.Addr()), PrefixLen: p.Bits()},
		}, stack.AddressProperties{})
		if err != nil {
			return fmt.Errorf("add address %s: %s", p, err)
		}
		subnet, subnetErr := tcpip.NewSubnet(address(p.Masked().Addr()), tcpip.MaskFromBytes(net.CIDRMask(p.Bits(), p.Addr().BitLen())))
		if subnetErr != nil {
			return fmt.Errorf("route to %s: %w", p, subnetErr)
		}
		s.AddRoute(tcpip.Route{Destination: subnet, NIC: id})
	}
	return nil
}

func address(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// deriveMAC makes a locally administered address from names, so that captures of
// two runs look the same.
func deriveMAC(parts ...string) net.HardwareAddr {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%q", p)
	}
	hw := net.HardwareAddr(h.Sum(nil)[:6])
	hw[0] = hw[0]&^1 | 2
	return hw
}
