package probes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/reports"
)

var (
	hosts   = []string{"hive0", "hive1", "hive2"}
	clients = []Client{
		{Name: "segment", Addr: netip.MustParseAddr("192.168.56.50"), Network: "segment"},
		{Name: "outside-a", Addr: netip.MustParseAddr("198.51.100.10"), Network: "198.51.100.0/24"},
		{Name: "outside-b", Addr: netip.MustParseAddr("203.0.113.10"), Network: "203.0.113.0/24"},
	}
	ingress = map[string]netip.Addr{
		"hive0": netip.MustParseAddr("10.0.0.2"), "hive1": netip.MustParseAddr("10.0.0.3"), "hive2": netip.MustParseAddr("10.0.0.4"),
	}
)

// endpoints are DNS on 53 of every host, over UDP and TCP.
func endpoints() []Endpoint {
	var all []Endpoint
	for i, h := range hosts {
		for _, proto := range []string{"udp", "tcp"} {
			all = append(all, Endpoint{
				Service: "powerdns", Host: h, Proto: proto, App: "dns",
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 56, byte(11 + i)}), 53),
			})
		}
	}
	return all
}

// site makes exchanges of every client with every endpoint, n of each, as a site
// answers that serve describes.
func site(n int, serve func(c Client, e Endpoint, i int) *whoami.Answer) Published {
	p := Published{Clients: clients, Endpoints: endpoints()}
	count := 0
	for range n {
		for _, e := range p.Endpoints {
			for _, c := range clients {
				x := Exchange{Client: c, Endpoint: e, Start: time.Unix(1, 0), Outcome: Answered, LocalAddr: netip.AddrPortFrom(c.Addr, 40000)}
				x.Answer = serve(c, e, count)
				count++
				p.Exchanges = append(p.Exchanges, x)
			}
		}
	}
	return p
}

// mesh is a site with two replicas behind the routing mesh, one-to-one one with a
// task on each host.
func mesh() Published {
	turn := map[string]int{}
	return site(8, func(_ Client, e Endpoint, _ int) *whoami.Answer {
		turn[e.Host+e.Proto]++
		n := turn[e.Host+e.Proto] % 2
		return &whoami.Answer{Task: fmt.Sprintf("task%d", n), Node: hosts[n], Source: netip.AddrPortFrom(ingress[e.Host], 50000)}
	})
}

func oneToOne() Published {
	return site(3, func(c Client, e Endpoint, _ int) *whoami.Answer {
		return &whoami.Answer{Task: "task-" + e.Host, Node: e.Host, Source: netip.AddrPortFrom(c.Addr, 40000)}
	})
}

// with edits each exchange that the site makes.
func with(p Published, edit func(i int, x *Exchange)) Published {
	for i := range p.Exchanges {
		edit(i, &p.Exchanges[i])
	}
	return p
}

// without leaves out the exchanges for which drop returns true.
func without(p Published, drop func(x Exchange) bool) Published {
	var kept []Exchange
	for _, x := range p.Exchanges {
		if !drop(x) {
			kept = append(kept, x)
		}
	}
	p.Exchanges = kept
	return p
}

func outcomeOf(o Outcome) func(*Exchange) {
	return func(x *Exchange) { x.Outcome, x.Answer = o, nil }
}

type verdictTest struct {
	name   string
	got    Judgement
	want   reports.Verdict
	reason string // part of the reason
}

func check(t *testing.T, tests []verdictTest) {
	t.Helper()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.got.Verdict != test.want || !strings.Contains(test.got.Reason, test.reason) {
				t.Errorf("got  %s: %s\nwant %s: … %s …", test.got.Verdict, test.got.Reason, test.want, test.reason)
			}
			counter := false
			for _, s := range test.got.Samples {
				counter = counter || s.Counter
			}
			if counter != (test.want == reports.Fail && len(test.got.Samples) > 0) {
				t.Errorf("%s shows %d samples, contradicting: %v", test.got.Verdict, len(test.got.Samples), counter)
			}
		})
	}
}

func TestEveryHostAnswers(t *testing.T) {
	judge := func(p Published) Judgement { return EveryHostAnswers(p, hosts, hosts[:2]) }
	hit := func(host, proto string, o Outcome) Published {
		return with(mesh(), func(_ int, x *Exchange) {
			if x.Endpoint.Host == host && x.Endpoint.Proto == proto {
				outcomeOf(o)(x)
			}
		})
	}
	once := func(proto string, o Outcome) Published {
		done := false
		return with(mesh(), func(_ int, x *Exchange) {
			if !done && x.Endpoint.Proto == proto {
				outcomeOf(o)(x)
				done = true
			}
		})
	}
	check(t, []verdictTest{
		{"all answer", judge(mesh()), reports.Pass, "also on hive2, where no task runs"},
		{"a task everywhere", EveryHostAnswers(mesh(), hosts, hosts), reports.Pass, "was not put to the test"},
		{"the host without a task refuses", judge(hit("hive2", "tcp", Refused)), reports.Fail, "no answer at all for outside-a → hive2 53/tcp"},
		{"silent over udp", judge(hit("hive1", "udp", TimedOut)), reports.Fail, "no answer at all"},
		{"accepted and never answered", judge(hit("hive0", "tcp", Connected)), reports.Fail, "connected"},
		{"one tcp connection lost", judge(once("tcp", TimedOut)), reports.Fail, "1 of 144 exchanges"},
		{"one wrong answer", judge(once("udp", WrongAnswer)), reports.Fail, "wrong-answer"},
		{"one datagram lost", judge(once("udp", TimedOut)), reports.Pass, "143 of 144 exchanges of 3 clients with 3 hosts were answered (1 UDP questions got no answer"},
		{"many datagrams lost", judge(with(mesh(), func(i int, x *Exchange) {
			if x.Endpoint.Proto == "udp" && i%7 == 0 {
				outcomeOf(TimedOut)(x)
			}
		})), reports.Fail, "more than 5 %"},
		{"one exchange aborted", judge(once("tcp", Aborted)), reports.Invalid, "could not be made"},
		{"a client was not asked", judge(without(mesh(), func(x Exchange) bool { return x.Client.Name == "outside-b" })), reports.Invalid, "outside-b"},
		{"udp was not asked", judge(without(mesh(), func(x Exchange) bool { return x.Endpoint.Proto == "udp" })), reports.Invalid, "53/udp"},
		{"a host has no endpoint", EveryHostAnswers(mesh(), append([]string{"hive9"}, hosts...), hosts), reports.Invalid, "hive9 was not asked"},
		{"no hosts", EveryHostAnswers(mesh(), nil, nil), reports.Invalid, "nothing was asked"},
		{"no task was seen", EveryHostAnswers(mesh(), hosts, nil), reports.Invalid, "although no task was seen to run"},
		{"nothing", judge(Published{}), reports.Invalid, "nothing was asked"},
		{"no exchanges", judge(Published{Clients: clients, Endpoints: endpoints()}), reports.Invalid, "nothing was asked"},
	})
}

func TestSourceHidden(t *testing.T) {
	judge := func(p Published) Judgement { return SourceHidden(p, ingress) }
	missing := map[string]netip.Addr{"hive0": ingress["hive0"], "hive1": ingress["hive1"]}
	check(t, []verdictTest{
		{"hidden", judge(mesh()), reports.Pass, "hive0 10.0.0.2"},
		{"the client's address comes through", judge(with(mesh(), func(i int, x *Exchange) {
			if i == 5 {
				x.Answer.Source = netip.AddrPortFrom(x.Client.Addr, 1)
			}
		})), reports.Fail, "in 1 it was the client's own address"},
		{"another host's ingress address", judge(with(mesh(), func(_ int, x *Exchange) {
			x.Answer.Source = netip.AddrPortFrom(ingress["hive0"], 1)
		})), reports.Fail, "expected 10.0.0.3, seen 10.0.0.2"},
		{"one-to-one site", judge(oneToOne()), reports.Fail, "client segment 192.168.56.50 asked hive0, expected 10.0.0.2, seen 192.168.56.50"},
		{"an ingress address is not known", SourceHidden(mesh(), missing), reports.Invalid, "the ingress address of hive2 is not known"},
		{"a host that nobody knows", SourceHidden(Published{Clients: clients, Exchanges: mesh().Exchanges}, missing), reports.Invalid, "the ingress address of hive2 is not known"},
		{"a client got no answer", judge(with(mesh(), func(_ int, x *Exchange) {
			if x.Client.Name == "outside-a" {
				outcomeOf(TimedOut)(x)
			}
		})), reports.Invalid, "fewer than 3 answers from outside-a"},
		{"nothing", judge(Published{}), reports.Invalid, "nothing was asked"},
	})
}

func TestBalances(t *testing.T) {
	tasks := []string{"task0", "task1"}
	judge := func(p Published) Judgement { return Balances(p, tasks) }
	check(t, []verdictTest{
		{"in turn", judge(mesh()), reports.Pass, "53/tcp 36:36, 53/udp 36:36"},
		{"one replica serves nothing", judge(with(mesh(), func(_ int, x *Exchange) { x.Answer.Task = "task0" })), reports.Fail,
			"task task0 served 72 of 72 on 53/tcp (fair share 36)"},
		{"one replica serves nothing over udp", judge(with(mesh(), func(_ int, x *Exchange) {
			if x.Endpoint.Proto == "udp" {
				x.Answer.Task = "task1"
			}
		})), reports.Fail, "on 53/udp"},
		{"one replica serves a fifth", judge(with(mesh(), func(i int, x *Exchange) {
			x.Answer.Task = "task0"
			if i%5 == 0 {
				x.Answer.Task = "task1"
			}
		})), reports.Fail, "half to one and a half times"},
		{"a task that is none of the service's", judge(with(mesh(), func(i int, x *Exchange) {
			if i == 3 {
				x.Answer.Task = "other"
			}
		})), reports.Invalid, "task other answered"},
		{"a client was not asked", judge(without(mesh(), func(x Exchange) bool { return x.Client.Name == "outside-b" })), reports.Invalid, "outside-b → hive0 53/tcp: 0"},
		{"udp was not asked", judge(without(mesh(), func(x Exchange) bool { return x.Endpoint.Proto == "udp" })), reports.Invalid, "0 answers on 53/udp"},
		{"one replica", Balances(mesh(), tasks[:1]), reports.Invalid, "nothing to balance over"},
		{"too few answers", judge(Published{Clients: clients, Endpoints: endpoints(), Exchanges: mesh().Exchanges[:30]}), reports.Invalid, "20 are needed"},
		{"nothing", judge(Published{}), reports.Invalid, "nothing was asked"},
	})
}

func TestEveryHostHasOne(t *testing.T) {
	on := func(nodes ...string) (all []Task) {
		for i, n := range nodes {
			all = append(all, Task{ID: fmt.Sprint(i), Node: n, Running: true})
		}
		return all
	}
	check(t, []verdictTest{
		{"one each", EveryHostHasOne(hosts, on("hive0", "hive1", "hive2")), reports.Pass, "hive0, hive1, hive2"},
		{"one that ended does not count", EveryHostHasOne(hosts, append(on("hive0", "hive1", "hive2"), Task{ID: "x", Node: "hive0"})), reports.Pass, ""},
		{"a host without", EveryHostHasOne(hosts, on("hive0", "hive1")), reports.Fail, "hive2 runs 0"},
		{"a host with two", EveryHostHasOne(hosts, on("hive0", "hive1", "hive2", "hive2")), reports.Fail, "hive2 runs 2"},
		{"elsewhere", EveryHostHasOne(hosts, on("hive0", "hive1", "hive2", "hive7")), reports.Fail, "1 run on no host of this site"},
		{"all ended", EveryHostHasOne(hosts, []Task{{ID: "x", Node: "hive0"}}), reports.Fail, "hive0 runs 0"},
		{"no tasks", EveryHostHasOne(hosts, nil), reports.Invalid, ""},
		{"no hosts", EveryHostHasOne(nil, on("hive0")), reports.Invalid, ""},
	})
}

func TestSourceKept(t *testing.T) {
	check(t, []verdictTest{
		{"kept", SourceKept(oneToOne()), reports.Pass, "outside-b 203.0.113.10"},
		{"the negative control: a mesh site", SourceKept(mesh()), reports.Fail, "10.0.0.2 instead of client segment 192.168.56.50 at hive0"},
		{"hidden over udp only", SourceKept(with(oneToOne(), func(_ int, x *Exchange) {
			if x.Endpoint.Proto == "udp" {
				x.Answer.Source = netip.MustParseAddrPort("172.18.0.1:1")
			}
		})), reports.Fail, "172.18.0.1 instead of"},
		{"one client was refused", SourceKept(with(oneToOne(), func(_ int, x *Exchange) {
			if x.Client.Name == "segment" {
				outcomeOf(Refused)(x)
			}
		})), reports.Invalid, "fewer than 3 answers from segment"},
		{"tcp was not asked", SourceKept(without(oneToOne(), func(x Exchange) bool { return x.Endpoint.Proto == "tcp" })), reports.Invalid, "53/tcp"},
		{"a client's address is not known", SourceKept(with(oneToOne(), func(_ int, x *Exchange) { x.Client.Addr = netip.Addr{} })), reports.Invalid,
			"the address of client segment is not known"},
		{"the probe failed", SourceKept(with(oneToOne(), func(i int, x *Exchange) {
			if i == 0 {
				outcomeOf(Failed)(x)
			}
		})), reports.Invalid, "could not be made"},
		{"nothing", SourceKept(Published{}), reports.Invalid, "nothing was asked"},
	})
}

func TestLocalTaskAnswers(t *testing.T) {
	check(t, []verdictTest{
		{"local", LocalTaskAnswers(oneToOne()), reports.Pass, "all 54 answers"},
		{"a mesh site", LocalTaskAnswers(mesh()), reports.Fail, "came from a task on another host"},
		{"two tasks on one host", LocalTaskAnswers(with(oneToOne(), func(i int, x *Exchange) {
			x.Answer.Task = fmt.Sprintf("%s-%d", x.Endpoint.Host, i%2)
		})), reports.Fail, "2 tasks answered on hive0"},
		{"a task does not know its host", LocalTaskAnswers(with(oneToOne(), func(_ int, x *Exchange) { x.Answer.Node = "" })), reports.Invalid, "does not say on which host"},
		{"a host is silent", LocalTaskAnswers(with(oneToOne(), func(_ int, x *Exchange) {
			if x.Endpoint.Host == "hive1" {
				outcomeOf(TimedOut)(x)
			}
		})), reports.Invalid, "hive1"},
		{"nothing", LocalTaskAnswers(Published{}), reports.Invalid, "nothing was asked"},
	})
}

// internal is a database on 3306 that no host exposes.
func internal() Hidden {
	h := Hidden{Hosts: hosts, Clients: clients, Controls: mesh().Exchanges}
	for i, host := range hosts {
		e := Endpoint{Service: "pdnsdb", Host: host, Proto: "tcp", App: "echo", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 56, byte(11 + i)}), 3306)}
		h.Endpoints = append(h.Endpoints, e)
		for _, c := range clients {
			h.Exchanges = append(h.Exchanges, Exchange{Client: c, Endpoint: e, Outcome: Refused})
		}
	}
	inside := h.Endpoints[0]
	inside.Addr = netip.MustParseAddrPort("127.0.0.1:3306")
	h.Listens = []Exchange{{Client: Client{Name: "inside"}, Endpoint: inside, Outcome: Answered, Answer: &whoami.Answer{}}}
	return h
}

func TestNotExposed(t *testing.T) {
	edit := func(change func(h *Hidden)) Judgement {
		h := internal()
		change(&h)
		return NotExposed(h)
	}
	first := func(o Outcome) Judgement { return edit(func(h *Hidden) { outcomeOf(o)(&h.Exchanges[0]) }) }
	check(t, []verdictTest{
		{"refused everywhere", NotExposed(internal()), reports.Pass, "9 questions were refused"},
		{"silent, and the control answers", first(TimedOut), reports.Pass, "1 got no answer where other ports"},
		{"answered", edit(func(h *Hidden) { h.Exchanges[4].Outcome, h.Exchanges[4].Answer = Answered, &whoami.Answer{} }), reports.Fail, "1 of 9"},
		{"accepted and silent", first(Connected), reports.Fail, "connected"},
		{"accepted and reset", first(Reset), reports.Fail, "reset"},
		{"something else answers", first(WrongAnswer), reports.Fail, "wrong-answer"},
		{"silent without a control", edit(func(h *Hidden) { outcomeOf(TimedOut)(&h.Exchanges[0]); h.Controls = nil }), reports.Invalid, "silence without a control"},
		{"unreachable", first(Unreachable), reports.Invalid, "unreachable"},
		{"aborted", first(Aborted), reports.Invalid, "aborted"},
		{"nothing listens inside", edit(func(h *Hidden) { outcomeOf(Refused)(&h.Listens[0]) }), reports.Invalid, "nothing answers on 3306/tcp inside"},
		{"nobody looked inside", edit(func(h *Hidden) { h.Listens = nil }), reports.Invalid, "inside the container"},
		{"a client did not ask", edit(func(h *Hidden) { h.Exchanges = h.Exchanges[1:] }), reports.Invalid, "segment → hive0 3306/tcp was not asked"},
		{"no hosts", edit(func(h *Hidden) { h.Hosts = nil }), reports.Invalid, "nothing was asked"},
		{"another host's control", edit(func(h *Hidden) {
			outcomeOf(TimedOut)(&h.Exchanges[0])
			h.Controls = without(Published{Exchanges: h.Controls}, func(x Exchange) bool { return x.Client.Name == "segment" && x.Endpoint.Host == "hive0" }).Exchanges
		}), reports.Invalid, "silence without a control"},
		{"a host was left out", edit(func(h *Hidden) { h.Hosts = append([]string{"hive9"}, hosts...) }), reports.Invalid, "hive9 was not asked"},
		{"nothing", NotExposed(Hidden{}), reports.Invalid, "nothing was asked"},
	})
}

// Samples marked as contradicting are those that do, each once, and a bounded number of them.
func TestCounterSamples(t *testing.T) {
	silent := EveryHostAnswers(with(mesh(), func(_ int, x *Exchange) {
		if x.Endpoint.Host == "hive2" && x.Endpoint.Proto == "tcp" && x.Client.Name == "segment" {
			outcomeOf(Refused)(x)
		}
	}), hosts, hosts)
	if n := len(silent.Samples); n != 8 {
		t.Errorf("%d samples of 8 refusals", n)
	}
	starved := Balances(with(mesh(), func(_ int, x *Exchange) {
		if x.Endpoint.Proto == "udp" {
			x.Answer.Task = "task1"
		}
	}), []string{"task0", "task1"})
	for _, s := range starved.Samples {
		if !strings.HasSuffix(s.Target, "/udp") {
			t.Errorf("%s is shown, TCP was even", s.Target)
		}
	}
	if n := len(starved.Samples); n == 0 || n > maxSamples {
		t.Errorf("%d samples", n)
	}
}
