package lint_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	pages "github.com/hiveproof/hiveproof/docs/rules"
	"github.com/hiveproof/hiveproof/scenarios/recipe/lint"
	"github.com/hiveproof/hiveproof/scenarios/recipes"
	"golang.org/x/sys/unix"
)

// Whatever is linted, every finding has a rule and a place in its file, and is
// either left or ignored.
func FuzzLint(f *testing.F) {
	for _, rule := range lint.Rules() {
		page, err := pages.Page(rule.ID)
		if err != nil {
			f.Fatal(err)
		}
		for _, example := range block.FindAllStringSubmatch(page, -1) {
			f.Add([]byte(example[1]), []byte(one("# hiveproof:ignore "+rule.ID+" x")), uint8(3), "", "2")
		}
	}
	for _, name := range recipes.Names() {
		src, err := recipes.Read(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src, src, uint8(1), "production", "global")
	}
	f.Add([]byte(one(dnsrr, "mode: '{{ x }}'", "replicas: '{{ x }}'", volumes(drbd, nfs, bind))), []byte("a: &a [*a]"), uint8(0), "private", "replicated")
	f.Fuzz(func(t *testing.T, a, b []byte, hosts uint8, stage, x string) {
		opts := lint.Options{Hosts: int(hosts), Stage: stage, Vars: map[string]string{"x": x}}
		r := lint.Run([]lint.Source{{Path: "a", Text: a}, {Path: "b", Text: b, Found: true}}, opts)
		if len(r.Files)+len(r.Skipped) != 2 {
			t.Fatalf("%d files", len(r.Files)+len(r.Skipped))
		}
		for _, file := range r.Files {
			text := a
			if file.Path == "b" {
				text = b
			}
			lines := strings.Count(string(bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))), "\n") + 1
			inFile := func(p lint.Place) {
				if p.Line < 1 || p.Line > lines || p.Column < 1 {
					t.Fatalf("%+v in a file of %d lines", p, lines)
				}
			}
			for _, finding := range file.Findings {
				inFile(lint.Place{Line: finding.Line, Column: finding.Column})
				if rule, ok := lint.RuleByID(finding.Rule); !ok || rule.Severity != finding.Severity || !utf8.ValidString(finding.Message) {
					t.Fatalf("%+v", finding)
				}
			}
			for _, i := range file.Ignored {
				inFile(i.Comment)
				if i.Reason == "" || slices.Contains(file.Findings, i.Finding) {
					t.Fatalf("%+v", i)
				}
			}
			for _, n := range slices.Concat(file.BadIgnores, file.Unresolved) {
				inFile(n.Place)
			}
		}
		var out bytes.Buffer
		for _, err := range []error{lint.WriteText(&out, r, true), lint.WriteJSON(&out, r)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// thousand is a file of 1000 services like those of the guide, with something to
// find in each.
func thousand() string {
	var b strings.Builder
	b.WriteString(head)
	for i := range 1000 {
		fmt.Fprintf(&b, `  s%d: # hiveproof:ignore HP007 generated
    image: procube/powerdns:latest
    environment:
      MYSQL_PASSWORD: "{{db_password}}"
      MYSQL_HOST: s%d
      UPSTREAM: http://s%d:8081
    command:
    - "--api=yes"
    - "--api-key={{db_password}}"
    ports:
    - target_port: 53
      published_port: %d
      protocol: udp
      mode: host
    volumes:
    - source: data%d
      target: /var/lib/mysql
      drbd:
        size: 500M
        fstype: xfs
    mode: global
    endpoint_mode: dnsrr
`, i, (i+1)%1000, (i+2)%1000, 1000+i%500, i)
	}
	return b.String()
}

// Definitions made to be slow are not: everybody wants the same port, or the same
// share, or names everybody.
func TestHostile(t *testing.T) {
	many := func(n int, make func(i int) string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			b.WriteString(make(i))
		}
		return b.String()
	}
	for name, src := range map[string]string{
		"ports": many(1000, func(i int) string {
			return service(fmt.Sprint("s", i), dnsrr, "available_on: ["+[]string{"private", "staging", "production"}[i%3]+"]", global,
				port(80, "host"), fmt.Sprintf("placement: {constraints: ['node.labels.a==%d']}", i))
		}),
		"shares": many(1000, func(i int) string { return service(fmt.Sprint("s", i), dnsrr, volumes(nfs)) }),
		"proxies": many(1000, func(i int) string {
			return service(fmt.Sprint("s", i), global, dnsrr, port(80, "host"), "environment: {A: 'hive0:80'}")
		}),
		"ignores": many(1000, func(i int) string {
			return "  # hiveproof:ignore HP205,HP007 x\n" + service(fmt.Sprint("s", i), "endpoint_mode: vip")
		}),
	} {
		start := processorTime(t)
		r := lintTexts(three, src)
		took := processorTime(t) - start
		t.Logf("%s: %d bytes, %+v in %v", name, len(src), r.Count(), took.Round(time.Millisecond))
		if took > 10*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

// processorTime is what this process has used so far; a busy machine does not add
// to it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkLint1000Services(b *testing.B) {
	src := []byte(thousand())
	b.SetBytes(int64(len(src)))
	b.ReportAllocs()
	for b.Loop() {
		r := lint.Run([]lint.Source{{Path: "f", Text: src}}, three)
		if c := r.Count(); c.Errors == 0 || c.Ignored != 1000 {
			b.Fatalf("%+v", c)
		}
	}
}
