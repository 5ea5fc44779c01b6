package agent_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/probes/agent"
	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/miekg/dns"
)

// ask puts a question with the client of the DNS library, over udp or tcp.
func ask(t *testing.T, network, at string, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion("abc."+whoami.Zone, dns.TypeTXT)
	change(q)
	m, _, err := (&dns.Client{Net: network, Timeout: limit, UDPSize: 1232}).ExchangeContext(t.Context(), q, at)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestDNSQuestions(t *testing.T) {
	name := func(n string) func(*dns.Msg) { return func(q *dns.Msg) { q.Question[0].Name = n } }
	kind := func(k uint16) func(*dns.Msg) { return func(q *dns.Msg) { q.Question[0].Qtype = k } }
	for _, network := range []string{"udp", "tcp"} {
		_, at := start(t, "dns:0/"+network)
		for _, test := range []struct {
			name   string
			change func(*dns.Msg)
			rcode  int
			kinds  []uint16 // of the records
		}{
			{"text", kind(dns.TypeTXT), dns.RcodeSuccess, []uint16{dns.TypeTXT}},
			{"any case", name("aBc.WHOAMI.hiveproof.TEST."), dns.RcodeSuccess, []uint16{dns.TypeTXT}}, // RFC 4343
			{"address", kind(dns.TypeA), dns.RcodeSuccess, []uint16{dns.TypeA}},
			{"address of the other family", kind(dns.TypeAAAA), dns.RcodeSuccess, nil},
			{"another type", kind(dns.TypeMX), dns.RcodeSuccess, nil},
			{"two labels", name("a.b." + whoami.Zone), dns.RcodeNameError, nil},
			{"a name that only ends alike", name("x" + whoami.Zone), dns.RcodeRefused, nil},
			{"another zone", name("www.example.com."), dns.RcodeRefused, nil},
			{"the root", name("."), dns.RcodeRefused, nil},
			{"two questions", func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }, dns.RcodeFormatError, nil},
		} {
			t.Run(network+" "+test.name, func(t *testing.T) {
				m := ask(t, network, at, test.change)
				var kinds []uint16
				for _, rr := range m.Answer {
					kinds = append(kinds, rr.Header().Rrtype)
					if rr.Header().Ttl != 0 {
						t.Errorf("a cache may keep it for %d s", rr.Header().Ttl)
					}
					switch rr := rr.(type) {
					case *dns.A:
						if rr.A.String() != "127.0.0.1" {
							t.Errorf("address %s", rr.A)
						}
					case *dns.TXT:
						a, err := whoami.ParseTXT(rr.Txt)
						if err != nil || a.Nonce != "abc" || a.Proto != network || a.Source.Addr() != netip.MustParseAddr("127.0.0.1") {
							t.Errorf("%+v, %v", a, err)
						}
					}
				}
				if m.Rcode != test.rcode || !slices.Equal(kinds, test.kinds) {
					t.Errorf("%s with records %v, want %s with %v", dns.RcodeToString[m.Rcode], kinds, dns.RcodeToString[test.rcode], test.kinds)
				}
			})
		}
	}
}

// The reply with the longest names that a swarm and the DNS allow fits the
// datagram that a prober takes.
func TestLongestAnswerFits(t *testing.T) {
	label := strings.Repeat("x", 63)
	env := map[string]string{
		"HIVEPROOF_SERVICE": label, "HIVEPROOF_TASK": label[:25], "HIVEPROOF_SLOT": label[:25], "HIVEPROOF_NODE": label, "HIVEPROOF_ROLE": label,
	}
	s := agent.NewServer(func(k string) string { return env[k] }, slog.New(slog.DiscardHandler))
	bound, err := s.Start([]agent.Listen{{App: "dns", Proto: "udp"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	m := ask(t, "udp", fmt.Sprintf("127.0.0.1:%d", bound[0].Port()), func(q *dns.Msg) {
		q.Question[0].Name = label + "." + whoami.Zone
		q.SetEdns0(1232, false)
	})
	if m.Truncated || len(m.Answer) != 1 || m.Len() > 1232 {
		t.Fatalf("%d bytes, %d records, truncated %v", m.Len(), len(m.Answer), m.Truncated)
	}
	a, err := whoami.ParseTXT(m.Answer[0].(*dns.TXT).Txt)
	if err != nil || a.Nonce != label || a.Node != label {
		t.Errorf("%+v, %v", a, err)
	}
}
