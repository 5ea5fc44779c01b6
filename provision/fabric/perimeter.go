package fabric

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Perimeter is a filter for frames that come from outside a site: it lets none
// through that opens a TCP connection to a port of the site at or above first, or
// is a datagram to one, as a cloud's firewall does. What it stops is dropped
// without a word. It keeps no state: answers to connections that the site itself
// opened pass, answers to its datagrams do not. It knows IPv4.
func Perimeter(site netip.Prefix, first uint16) func(frame []byte) bool {
	return func(frame []byte) bool {
		if len(frame) < header.EthernetMinimumSize || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
			return true
		}
		ip := header.IPv4(frame[header.EthernetMinimumSize:])
		if !ip.IsValid(len(ip)) || ip.FragmentOffset() != 0 { // a later fragment is nothing without the first
			return true
		}
		if !site.Contains(netip.AddrFrom4(ip.DestinationAddress().As4())) {
			return true
		}
		payload := ip.Payload()
		switch ip.TransportProtocol() {
		case header.TCPProtocolNumber:
			if len(payload) < header.TCPMinimumSize {
				return true
			}
			tcp := header.TCP(payload)
			opens := tcp.Flags().Contains(header.TCPFlagSyn) && !tcp.Flags().Contains(header.TCPFlagAck)
			return !opens || tcp.DestinationPort() < first
		case header.UDPProtocolNumber:
			return len(payload) < header.UDPMinimumSize || header.UDP(payload).DestinationPort() < first
		}
		return true
	}
}
