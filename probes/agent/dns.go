package agent

import (
	"net"
	"net/netip"
	"strings"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// ednsSize is what fits an unfragmented datagram on any path (DNS flag day 2020).
const ednsSize = 1232

// ttl of an answer: none, so that nothing on the way keeps it.
const ttl = 0

func (s *Server) serveDNSPacket(conn net.PacketConn) {
	s.serveDNS(&dns.Server{PacketConn: conn, Handler: s.dnsHandler("udp"), UDPSize: dns.DefaultMsgSize})
}

func (s *Server) serveDNSListener(l net.Listener) {
	s.serveDNS(&dns.Server{Listener: l, Handler: s.dnsHandler("tcp")})
}

func (s *Server) serveDNS(server *dns.Server) {
	// Closing the socket alone would leave idle TCP connections to their timeout.
	untrack, ok := s.track(dnsCloser{server})
	if !ok {
		return
	}
	defer untrack()
	_ = server.ActivateAndServe() // it ends when the server is shut down or its socket closed
}

type dnsCloser struct{ *dns.Server }

func (c dnsCloser) Close() error {
	_ = c.Shutdown() // it fails only if the server has not started; its socket is closed as well
	return nil
}

// dnsHandler answers NONCE.whoami.hiveproof.test: TXT with the Answer as
// attributes, A and AAAA with the source address alone.
func (s *Server) dnsHandler(proto string) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Authoritative = true
		if opt := q.IsEdns0(); opt != nil {
			m.SetEdns0(ednsSize, false)
		}
		if len(q.Question) != 1 {
			m.Rcode = dns.RcodeFormatError
			_ = w.WriteMsg(m) // a client that is gone asks again
			return
		}
		question := q.Question[0]
		nonce, inZone := strings.CutSuffix(strings.ToLower(question.Name), "."+whoami.Zone)
		switch {
		case !inZone:
			m.Authoritative, m.Rcode = false, dns.RcodeRefused
		case nonce == "" || strings.Contains(nonce, "."):
			m.Rcode = dns.RcodeNameError
		default:
			a := s.answer(proto, w.RemoteAddr(), w.LocalAddr(), nonce)
			head := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: ttl}
			m.Answer = records(head, a)
		}
		_ = w.WriteMsg(m)
	})
}

func records(head dns.RR_Header, a whoami.Answer) []dns.RR {
	source := a.Source.Addr()
	switch head.Rrtype {
	case dns.TypeTXT:
		return []dns.RR{&dns.TXT{Hdr: head, Txt: a.TXT()}}
	case dns.TypeA:
		if source.Is4() {
			return []dns.RR{&dns.A{Hdr: head, A: asIP(source)}}
		}
	case dns.TypeAAAA:
		if source.Is6() {
			return []dns.RR{&dns.AAAA{Hdr: head, AAAA: asIP(source)}}
		}
	}
	return nil
}

func asIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }
