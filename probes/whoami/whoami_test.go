package whoami

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func TestTXTRoundTrip(t *testing.T) {
	full := Answer{
		Service: "powerdns", Task: "t1", Slot: "2", Node: "hive1", Container: "powerdns", Role: "dns", Proto: "udp",
		Nonce: "abc", Seq: 1<<64 - 1,
		Source: netip.MustParseAddrPort("203.0.113.10:40000"), Local: netip.MustParseAddrPort("10.0.0.5:53"),
	}
	six := full
	six.Source = netip.MustParseAddrPort("[2001:db8::10]:40000")
	six.Local = netip.MustParseAddrPort("[fe80::1%eth0]:53")
	equals := full
	equals.Service = "a=b=c" // only the first "=" divides
	for name, a := range map[string]Answer{
		"all": full, "IPv6": six, "an equals sign in a value": equals,
		"next to nothing": {Seq: 1},
		"no addresses":    {Service: "powerdns", Task: "t1", Seq: 7},
	} {
		t.Run(name, func(t *testing.T) {
			text := a.TXT()
			back, err := ParseTXT(text)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if !reflect.DeepEqual(*back, a) {
				t.Errorf("%+v came back as %+v", a, *back)
			}
			for _, attribute := range text {
				// RFC 1035, section 3.3: a character-string has a length of one octet.
				if len(attribute) > 255 {
					t.Errorf("%q does not fit a string of a TXT record", attribute)
				}
				if strings.HasSuffix(attribute, "=") {
					t.Errorf("%q says nothing", attribute)
				}
			}
		})
	}
}

func TestTXTLeavesOutHeader(t *testing.T) {
	a := Answer{Service: "web", Header: map[string][]string{"Cookie": {"secret"}}}
	if text := strings.Join(a.TXT(), " "); strings.Contains(text, "secret") {
		t.Errorf("the header is in %s", text)
	}
}

func TestParseTXTRefuses(t *testing.T) {
	for _, test := range []struct{ attribute, want string }{
		{"v=spf1 -all", "unknown attribute"},
		{"Service=powerdns", "unknown attribute"},
		{"service", "unknown attribute"},
		{"", "unknown attribute"},
		{"header=x", "unknown attribute"},
		{"source=203.0.113.10", "source"}, // no port
		{"source=", "source"},
		{"local=hive0:53", "local"},
		{"seq=-1", "seq"},
		{"seq=18446744073709551616", "seq"},
		{"seq=", "seq"},
	} {
		a, err := ParseTXT([]string{"service=powerdns", test.attribute})
		if err == nil || a != nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), `"`+test.attribute+`"`) {
			t.Errorf("%q gives %+v, %v; want an error that names it", test.attribute, a, err)
		}
	}
}
