package probes

import (
	"net/netip"
	"testing"

	"github.com/hiveproof/hiveproof/reports"
)

func addresses(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func resolution(mode string, got ...string) Resolution {
	r := Resolution{Service: "pdnsdb", Mode: mode, Tasks: addresses("10.0.1.5", "10.0.1.6")}
	if mode == "vip" {
		r.VIPs = addresses("10.0.1.2")
	}
	for _, node := range hosts {
		r.Lookups = append(r.Lookups, Lookup{Service: "powerdns", Task: "task-" + node, Node: node, Name: "pdnsdb", Addresses: addresses(got...)})
	}
	return r
}

func TestResolvesToTasks(t *testing.T) {
	edit := func(r Resolution, change func(r *Resolution)) Judgement {
		change(&r)
		return ResolvesToTasks(r)
	}
	dnsrr := func(change func(r *Resolution)) Judgement {
		return edit(resolution("dnsrr", "10.0.1.6", "10.0.1.5"), change)
	}
	check(t, []verdictTest{
		{"the tasks", ResolvesToTasks(resolution("dnsrr", "10.0.1.6", "10.0.1.5")), reports.Pass, "in 3 containers pdnsdb resolved to exactly the running tasks' addresses, 10.0.1.5, 10.0.1.6 (dnsrr)"},
		{"an address twice", ResolvesToTasks(resolution("dnsrr", "10.0.1.6", "10.0.1.5", "10.0.1.6")), reports.Pass, ""},
		{"the virtual address", ResolvesToTasks(resolution("vip", "10.0.1.2")), reports.Pass, "the service's virtual address, 10.0.1.2 (vip)"},
		{"one per network", edit(resolution("vip", "10.0.1.2", "10.0.2.2"), func(r *Resolution) { r.VIPs = addresses("10.0.1.2", "10.0.2.2") }), reports.Pass, ""},
		{"a task is missing", ResolvesToTasks(resolution("dnsrr", "10.0.1.5")), reports.Fail, "powerdns on hive0 looked pdnsdb up and got 10.0.1.5, which is not the running tasks' addresses, 10.0.1.5, 10.0.1.6"},
		{"a task that is gone", ResolvesToTasks(resolution("dnsrr", "10.0.1.5", "10.0.1.6", "10.0.1.7")), reports.Fail, "10.0.1.7"},
		{"a virtual address with dnsrr", ResolvesToTasks(resolution("dnsrr", "10.0.1.2")), reports.Fail, "got 10.0.1.2"},
		{"the tasks with vip", ResolvesToTasks(resolution("vip", "10.0.1.5", "10.0.1.6")), reports.Fail, "which is not the service's virtual address"},
		{"a task beside the virtual address", ResolvesToTasks(resolution("vip", "10.0.1.2", "10.0.1.5")), reports.Pass, "the tasks' own"},
		{"a stranger beside the virtual address", ResolvesToTasks(resolution("vip", "10.0.1.2", "10.0.1.99")), reports.Fail, "got 10.0.1.2, 10.0.1.99"},
		{"one host differs", dnsrr(func(r *Resolution) { r.Lookups[2].Addresses = addresses("10.0.1.5") }), reports.Fail, "powerdns on hive2"},
		{"no address", ResolvesToTasks(resolution("dnsrr")), reports.Fail, "got nothing"},
		{"an error", dnsrr(func(r *Resolution) { r.Lookups[1].Err, r.Lookups[1].Addresses = "no such host", nil }), reports.Fail, "powerdns on hive1 could not look pdnsdb up: no such host"},
		{"no look-ups", dnsrr(func(r *Resolution) { r.Lookups = nil }), reports.Invalid, "0 look-up(s)"},
		{"no tasks", dnsrr(func(r *Resolution) { r.Tasks = nil }), reports.Invalid, "0 running task(s)"},
		{"no virtual address is known", edit(resolution("vip", "10.0.1.2"), func(r *Resolution) { r.VIPs = nil }), reports.Invalid, "are not known"},
		{"the mode is not known", ResolvesToTasks(resolution("", "10.0.1.5", "10.0.1.6")), reports.Invalid, "endpoint mode"},
		{"nothing", ResolvesToTasks(Resolution{}), reports.Invalid, ""},
	})
}

// viewsOf is each host's answer to every client, as answer gives it.
func viewsOf(answer func(c Client, host string) []string) []View {
	var all []View
	for _, c := range clients {
		prefix, _ := c.Addr.Prefix(24)
		for _, h := range hosts {
			all = append(all, View{Client: c, Host: h, Name: "view.hiveproof.test.", Want: prefix.String(), Outcome: Answered, Answers: answer(c, h)})
		}
	}
	return all
}

func byClient(c Client, _ string) []string {
	prefix, _ := c.Addr.Prefix(24)
	return []string{prefix.String()}
}

func byHost(_ Client, host string) []string { return []string{"ingress " + host} }

func withView(all []View, at int, change func(v *View)) []View {
	change(&all[at])
	return all
}

func viewEnds(o Outcome) func(v *View) {
	return func(v *View) { v.Outcome, v.Answers, v.Err = o, nil, "as the test has it" }
}

func TestViewsDiffer(t *testing.T) {
	edit := func(at int, change func(v *View)) Judgement {
		return ViewsDiffer(withView(viewsOf(byClient), at, change))
	}
	check(t, []verdictTest{
		{"each its own", ViewsDiffer(viewsOf(byClient)), reports.Pass, "all 9 questions"},
		{"behind the mesh", ViewsDiffer(viewsOf(byHost)), reports.Fail, "segment (192.168.56.50) asked hive0 for view.hiveproof.test. and got ingress hive0, the answer for its network is 192.168.56.0/24"},
		{"another network's", edit(4, func(v *View) { v.Answers = []string{"203.0.113.0/24"} }), reports.Fail, "outside-a (198.51.100.10) asked hive1"},
		{"its own and another's", edit(4, func(v *View) { v.Answers = append(v.Answers, "203.0.113.0/24") }), reports.Fail, "outside-a"},
		{"an empty answer", edit(4, func(v *View) { v.Answers = nil }), reports.Fail, "and got nothing"},
		{"an error for an answer", edit(4, viewEnds(WrongAnswer)), reports.Fail, "wrong-answer"},
		{"refused", edit(4, viewEnds(Refused)), reports.Fail, "refused"},
		{"one question lost", edit(4, viewEnds(TimedOut)), reports.Invalid, "outside-a got no answer from hive1"},
		{"aborted", edit(4, viewEnds(Aborted)), reports.Invalid, "outside-a could not ask hive1"},
		{"failed", edit(4, viewEnds(Failed)), reports.Invalid, "could not ask"},
		{"one network", ViewsDiffer(viewsOf(byClient)[:3]), reports.Invalid, "clients of 1 network(s) asked"},
		{"each host was asked by one network", ViewsDiffer([]View{viewsOf(byClient)[0], viewsOf(byClient)[4]}), reports.Invalid, "hive0 was asked by clients of 1 network(s)"},
		{"nothing", ViewsDiffer(nil), reports.Invalid, "0 network(s)"},
	})
}

func TestViewsSame(t *testing.T) {
	edit := func(at int, change func(v *View)) Judgement { return ViewsSame(withView(viewsOf(byHost), at, change)) }
	twin := viewsOf(byHost)[0]
	twin.Client.Name, twin.Answers = "segment-2", []string{"another"}
	check(t, []verdictTest{
		{"the same", ViewsSame(viewsOf(byHost)), reports.Pass, "on each of 3 hosts"},
		{"hosts may differ, one may hit by chance", ViewsSame(viewsOf(func(Client, string) []string { return []string{"192.168.56.0/24"} })), reports.Pass, ""},
		{"one-to-one", ViewsSame(viewsOf(byClient)), reports.Fail, "on hive0 the server told clients apart: segment got 192.168.56.0/24, outside-a got 198.51.100.0/24"},
		{"one host tells one client apart", edit(8, func(v *View) { v.Answers = []string{v.Want} }), reports.Fail, "on hive2 the server told clients apart: segment got ingress hive2, outside-b got 203.0.113.0/24"},
		{"two of one network differ", ViewsSame(append(viewsOf(byHost), twin)), reports.Fail, "told clients apart"},
		{"only two of one network differ", ViewsSame(append(hive0FromSegment(viewsOf(byHost)), twin)), reports.Invalid, "which are in one network"},
		{"one question lost", edit(4, viewEnds(TimedOut)), reports.Invalid, "outside-a got no answer from hive1"},
		{"an empty answer", ViewsSame(viewsOf(func(Client, string) []string { return nil })), reports.Invalid, "got no answer"},
		{"aborted", edit(4, viewEnds(Aborted)), reports.Invalid, "could not ask"},
		{"one network", ViewsSame(viewsOf(byHost)[:3]), reports.Invalid, "clients of 1 network(s) asked"},
		{"each host was asked by one network", ViewsSame([]View{viewsOf(byHost)[0], viewsOf(byHost)[4]}), reports.Invalid, "hive0 was asked by clients of 1 network(s)"},
		{"nothing", ViewsSame(nil), reports.Invalid, "0 network(s)"},
	})
}

// hive0FromSegment leaves hive0 to the segment's client, the other hosts to everybody.
func hive0FromSegment(all []View) []View {
	var kept []View
	for _, v := range all {
		if v.Host != "hive0" || v.Client.Network == "segment" {
			kept = append(kept, v)
		}
	}
	return kept
}
