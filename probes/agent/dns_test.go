package agent

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

func question(nonce string, qtype uint16) *dns.Msg {
	return new(dns.Msg).SetQuestion(nonce+"."+whoami.Zone, qtype)
}

func exchange(t *testing.T, conn net.Conn, q *dns.Msg) *dns.Msg {
	t.Helper()
	c := &dns.Conn{Conn: conn, UDPSize: 1232}
	if err := c.WriteMsg(q); err != nil {
		t.Fatal(err)
	}
	m, err := c.ReadMsg()
	if err != nil {
		t.Fatal(err)
	}
	if m.Id != q.Id || !m.Response {
		t.Fatalf("no reply to the question: %v", m)
	}
	return m
}

func TestDNS(t *testing.T) {
	_, at := start(t, map[string]string{"HIVEPROOF_SERVICE": "powerdns"}, "dns:0/udp,dns:0/tcp")
	for i, proto := range []string{"udp", "tcp"} {
		t.Run(proto, func(t *testing.T) {
			conn := dial(t, proto, at[i])
			me := netip.MustParseAddrPort(conn.LocalAddr().String())

			m := exchange(t, conn, question("abc", dns.TypeTXT))
			if m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(m.Answer) != 1 {
				t.Fatalf("answer %v", m)
			}
			if m.Answer[0].Header().Ttl != 0 {
				t.Error("a cache may keep the answer")
			}
			a, err := whoami.ParseTXT(m.Answer[0].(*dns.TXT).Txt)
			if err != nil {
				t.Fatal(err)
			}
			if a.Service != "powerdns" || a.Nonce != "abc" || a.Proto != proto || a.Source != me {
				t.Errorf("answer %+v to %s", a, me)
			}

			m = exchange(t, conn, question("abc", dns.TypeA))
			if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "127.0.0.1" {
				t.Errorf("address: %v", m)
			}
			// An IPv4 source has no IPv6 address, and is not made up to have one.
			if m = exchange(t, conn, question("abc", dns.TypeAAAA)); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
				t.Errorf("IPv6 address: %v", m)
			}
			if m = exchange(t, conn, question("abc", dns.TypeMX)); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
				t.Errorf("mail exchanger: %v", m)
			}
		})
	}
}

func TestDNSNames(t *testing.T) {
	_, at := start(t, nil, "dns:0/udp")
	conn := dial(t, "udp", at[0])
	for name, want := range map[string]int{
		"abc." + whoami.Zone:                  dns.RcodeSuccess,
		"ABC.WhoAmI.HiveProof.TEST.":          dns.RcodeSuccess, // RFC 4343
		whoami.Zone:                           dns.RcodeRefused,
		"a.b." + whoami.Zone:                  dns.RcodeNameError,
		"example.com.":                        dns.RcodeRefused,
		".":                                   dns.RcodeRefused,
		"abc.not" + whoami.Zone:               dns.RcodeRefused,
		strings.Repeat("a", 63) + ".example.": dns.RcodeRefused,
	} {
		m := exchange(t, conn, new(dns.Msg).SetQuestion(name, dns.TypeTXT))
		if m.Rcode != want || (len(m.Answer) > 0) != (want == dns.RcodeSuccess) {
			t.Errorf("%s: %s with %d records, want %s", name, dns.RcodeToString[m.Rcode], len(m.Answer), dns.RcodeToString[want])
		}
	}
}

// The reply to the longest names that a swarm allows fits the datagram that the
// prober takes.
func TestDNSFits(t *testing.T) {
	long := strings.Repeat("x", 63)
	_, at := start(t, map[string]string{
		"HIVEPROOF_SERVICE": long, "HIVEPROOF_TASK": long[:25], "HIVEPROOF_SLOT": long[:25], "HIVEPROOF_NODE": long, "HIVEPROOF_ROLE": long,
	}, "dns:0/udp")
	q := question(long, dns.TypeTXT)
	q.SetEdns0(1232, false)
	m := exchange(t, dial(t, "udp", at[0]), q)
	m.Compress = true
	if m.Truncated || len(m.Answer) != 1 || m.IsEdns0() == nil {
		t.Fatalf("reply %v", m)
	}
	a, err := whoami.ParseTXT(m.Answer[0].(*dns.TXT).Txt)
	if err != nil || a.Nonce != long || a.Node != long {
		t.Errorf("%+v, %v", a, err)
	}
}
