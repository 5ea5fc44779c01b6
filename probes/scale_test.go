package probes

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/hiveproof/hiveproof/probes/whoami"
	"github.com/hiveproof/hiveproof/reports"
)

// phase is a service with so many replicas, asked four times by every client on
// every port of every host, each port's answers from the tasks in turn.
func phase(tasks ...string) ScalePhase {
	turn := map[string]int{}
	p := site(4, func(_ Client, e Endpoint, _ int) *whoami.Answer {
		turn[portOf(e)]++
		return &whoami.Answer{Task: tasks[turn[portOf(e)]%len(tasks)], Node: e.Host}
	})
	return ScalePhase{Replicas: len(tasks), Tasks: tasks, Exchanges: p.Exchanges}
}

func scaling() Scaling {
	return Scaling{Before: phase("task0", "task1"), Grown: phase("task0", "task1", "task2"), Shrunk: phase("task0", "task2")}
}

func TestScales(t *testing.T) {
	edit := func(change func(s *Scaling)) Judgement {
		s := scaling()
		change(&s)
		return Scales(s)
	}
	// each edits the exchanges of a phase.
	each := func(of func(s *Scaling) *ScalePhase, change func(i int, x *Exchange)) Judgement {
		return edit(func(s *Scaling) { with(Published{Exchanges: of(s).Exchanges}, change) })
	}
	drop := func(of func(s *Scaling) *ScalePhase, which func(x Exchange) bool) Judgement {
		return edit(func(s *Scaling) { of(s).Exchanges = without(Published{Exchanges: of(s).Exchanges}, which).Exchanges })
	}
	before := func(s *Scaling) *ScalePhase { return &s.Before }
	grown := func(s *Scaling) *ScalePhase { return &s.Grown }
	shrunk := func(s *Scaling) *ScalePhase { return &s.Shrunk }
	at := func(n int, change func(x *Exchange)) func(int, *Exchange) {
		return func(i int, x *Exchange) {
			if i == n {
				change(x)
			}
		}
	}
	by := func(task string) func(x *Exchange) { return func(x *Exchange) { x.Answer.Task = task } }
	ended := func(o Outcome) func(x *Exchange) { return outcomeOf(o) }
	const udp, tcp = 0, 3 // the first exchange of each: site has three clients ask UDP first
	check(t, []verdictTest{
		{"scales", Scales(scaling()), reports.Pass, "with 3 replicas the new task served on 53/tcp, 53/udp; with 2 again the removed one got nothing of 72 questions"},
		{"what was added is removed", edit(func(s *Scaling) { s.Shrunk = phase("task0", "task1") }), reports.Pass, ""},
		{"by two", edit(func(s *Scaling) { s.Grown = phase("task0", "task1", "task2", "task3") }), reports.Pass, "with 4 replicas"},
		{"one datagram lost", each(shrunk, at(udp, ended(TimedOut))), reports.Pass, "1 UDP question"},
		{"a removed task answers", each(shrunk, at(5, by("task1"))), reports.Fail, "task task1 was removed, and still answered"},
		{"a stranger answers afterwards", each(shrunk, at(5, by("other"))), reports.Fail, "task other answered, which is none of those that run"},
		{"a stranger answers in between", each(grown, at(5, by("other"))), reports.Fail, "with more replicas task other answered"},
		{"a stranger answers before", each(before, at(5, by("other"))), reports.Invalid, "before task other answered"},
		{"the new task serves nobody", each(grown, func(i int, x *Exchange) { x.Answer.Task = fmt.Sprintf("task%d", i%2) }), reports.Fail, "the new task task2 served nobody on 53/tcp"},
		{"the new task serves nobody over udp", each(grown, func(i int, x *Exchange) {
			if x.Endpoint.Proto == "udp" {
				x.Answer.Task = fmt.Sprintf("task%d", i%2)
			}
		}), reports.Fail, "the new task task2 served nobody on 53/udp"},
		{"one of two new tasks serves nobody", edit(func(s *Scaling) {
			s.Grown = phase("task0", "task1", "task2", "task3")
			with(Published{Exchanges: s.Grown.Exchanges}, func(_ int, x *Exchange) {
				if x.Answer.Task == "task3" {
					x.Answer.Task = "task0"
				}
			})
		}), reports.Fail, "the new task task3 served nobody"},
		{"a connection lost", each(shrunk, at(tcp, ended(TimedOut))), reports.Fail, "with fewer again 1 of 72 exchanges were not answered"},
		{"a connection refused", each(grown, at(tcp, ended(Refused))), reports.Fail, "with more replicas 1 of 72"},
		{"a datagram refused", each(shrunk, at(udp, ended(Refused))), reports.Fail, "refused"},
		{"many datagrams lost", each(shrunk, func(i int, x *Exchange) {
			if x.Endpoint.Proto == "udp" && i%9 == 0 {
				outcomeOf(TimedOut)(x)
			}
		}), reports.Fail, "UDP questions got no answer"},
		{"a task was replaced while the service grew", edit(func(s *Scaling) { s.Grown = phase("task0", "task2", "task3") }), reports.Fail, "task task1 did not outlive the change to 3 replicas"},
		{"a task was replaced while the service shrank", edit(func(s *Scaling) { s.Shrunk = phase("task0", "task9") }), reports.Fail, "task task9 was started"},
		{"fewer tasks than replicas", edit(func(s *Scaling) { s.Grown.Replicas = 4 }), reports.Invalid, "with more replicas 3 of 4 tasks ran"},
		{"the same task twice", edit(func(s *Scaling) { s.Grown.Tasks = []string{"task0", "task1", "task1"} }), reports.Invalid, "with more replicas 2 of 3 tasks ran"},
		{"the tasks were not listed afterwards", edit(func(s *Scaling) { s.Shrunk.Tasks = nil }), reports.Invalid, "with fewer again 0 of 2 tasks ran"},
		{"never scaled", edit(func(s *Scaling) { s.Grown, s.Shrunk = s.Before, s.Before }), reports.Invalid, "replicas were 2, 2 and 2"},
		{"not scaled back", edit(func(s *Scaling) { s.Shrunk = s.Grown }), reports.Invalid, "replicas were 2, 3 and 3"},
		{"aborted", each(grown, at(0, ended(Aborted))), reports.Invalid, "with more replicas 1 of 72 exchanges could not be made"},
		{"the probe failed", each(before, at(0, ended(Failed))), reports.Invalid, "before 1 of 72"},
		{"one port was not asked afterwards", drop(shrunk, func(x Exchange) bool { return x.Endpoint.Proto == "udp" }), reports.Invalid, "53/udp"},
		{"one port was not asked with more", drop(grown, func(x Exchange) bool { return x.Endpoint.Proto == "udp" }), reports.Invalid, "53/udp"},
		{"one host was not asked afterwards", drop(shrunk, func(x Exchange) bool { return x.Endpoint.Host == "hive2" }), reports.Invalid, "hive2"},
		{"one client did not ask afterwards", drop(shrunk, func(x Exchange) bool { return x.Client.Name == "segment" }), reports.Invalid, "segment"},
		{"too few exchanges", edit(func(s *Scaling) { s.Shrunk.Exchanges = s.Shrunk.Exchanges[:36] }), reports.Invalid, "fewer than 3 exchanges"},
		{"too few answers of a port", edit(func(s *Scaling) {
			for _, p := range []*ScalePhase{&s.Before, &s.Grown, &s.Shrunk} {
				n := map[cell]int{}
				p.Exchanges = without(Published{Exchanges: p.Exchanges}, func(x Exchange) bool {
					n[cellOf(x)]++
					return x.Client.Name != "segment" || n[cellOf(x)] > 3
				}).Exchanges
			}
		}), reports.Invalid, "there were 9 answers on 53/tcp, 10 are needed"},
		{"nobody ever asked", edit(func(s *Scaling) { s.Before.Exchanges, s.Grown.Exchanges, s.Shrunk.Exchanges = nil, nil, nil }), reports.Invalid, "nothing was asked"},
		{"nobody asked afterwards", edit(func(s *Scaling) { s.Shrunk.Exchanges = nil }), reports.Invalid, "with fewer again"},
		{"the server is not the agent", each(shrunk, func(_ int, x *Exchange) { x.Answer = nil }), reports.Invalid, "needs the agent's answers"},
		{"nothing", Scales(Scaling{}), reports.Invalid, "before 0 of 0 tasks ran"},
	})
	if r := each(shrunk, at(udp, ended(TimedOut))).Reason; strings.Contains(r, "none was lost") {
		t.Errorf("one was lost: %s", r)
	}
}

// internalPorts are a web service on 10080 of every host behind a perimeter: those
// on the segment are answered, those outside are not.
func internalPorts() Published {
	p := Published{Clients: clients}
	for i, h := range hosts {
		p.Endpoints = append(p.Endpoints, Endpoint{Service: "speedtest", Host: h, Proto: "tcp", App: "http", Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 56, byte(11 + i)}), 10080)})
	}
	for range 3 {
		for _, e := range p.Endpoints {
			for _, c := range clients {
				x := Exchange{Client: c, Endpoint: e, Outcome: TimedOut}
				if c.Network == "segment" {
					x.Outcome, x.Answer = Answered, &whoami.Answer{}
				}
				p.Exchanges = append(p.Exchanges, x)
			}
		}
	}
	return p
}

func TestInternalRange(t *testing.T) {
	ends := func(client, host string, o Outcome) Judgement {
		return InternalRange(with(internalPorts(), func(_ int, x *Exchange) {
			if x.Client.Name == client && x.Endpoint.Host == host {
				outcomeOf(o)(x)
			}
		}))
	}
	only := func(keep func(c Client) bool) Judgement {
		p := without(internalPorts(), func(x Exchange) bool { return !keep(x.Client) })
		p.Clients = nil
		for _, c := range clients {
			if keep(c) {
				p.Clients = append(p.Clients, c)
			}
		}
		return InternalRange(p)
	}
	inside := func(c Client) bool { return c.Network == "segment" }
	check(t, []verdictTest{
		{"closed", InternalRange(internalPorts()), reports.Pass, "18 questions of 2 clients outside got no answer (timeout 18) from ports that answer on the segment"},
		{"refused", ends("outside-a", "hive1", Refused), reports.Pass, "(refused 3, timeout 15)"},
		{"unreachable", ends("outside-a", "hive1", Unreachable), reports.Pass, "unreachable 3"},
		{"the server is not the agent", InternalRange(with(internalPorts(), func(_ int, x *Exchange) { x.Answer = nil })), reports.Pass, ""},
		{"answered outside", ends("outside-a", "hive1", Answered), reports.Fail, "in 3 of 18 questions an internal port was reached from outside: outside-a (198.51.100.10) asked hive1"},
		{"accepted outside", ends("outside-b", "hive2", Connected), reports.Fail, "connected"},
		{"reset outside", ends("outside-b", "hive2", Reset), reports.Fail, "reset"},
		{"something else answers outside", ends("outside-b", "hive2", WrongAnswer), reports.Fail, "wrong-answer"},
		{"open, and the control was aborted", ends("segment", "hive0", Aborted), reports.Invalid, "could not be made"},
		{"silent inside too", ends("segment", "hive1", TimedOut), reports.Invalid, "segment → hive1 10080/tcp was not answered either: what is silent for everybody shows nothing"},
		{"aborted outside", ends("outside-a", "hive1", Aborted), reports.Invalid, "could not be made"},
		{"failed outside", ends("outside-a", "hive1", Failed), reports.Invalid, "could not be made"},
		{"a client outside did not ask a host", InternalRange(without(internalPorts(), func(x Exchange) bool {
			return x.Client.Name == "outside-a" && x.Endpoint.Host == "hive2"
		})), reports.Invalid, "outside-a → hive2 10080/tcp was not asked"},
		{"nobody outside", only(inside), reports.Invalid, "1 clients inside and 0 outside"},
		{"nobody inside", only(func(c Client) bool { return !inside(c) }), reports.Invalid, "0 clients inside and 2 outside"},
		{"no port", InternalRange(Published{Clients: clients}), reports.Invalid, "0 ports"},
		{"nobody asked", InternalRange(Published{Clients: clients, Endpoints: internalPorts().Endpoints}), reports.Invalid, "was not"},
		{"nothing", InternalRange(Published{}), reports.Invalid, ""},
	})
	if n := len(ends("outside-a", "hive1", Answered).Samples); n != 3 {
		t.Errorf("%d samples of 3 that contradict", n)
	}
}
