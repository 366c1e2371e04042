package tailfin

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestParseAltSvc(t *testing.T) {
	day := 24 * time.Hour
	for _, tc := range []struct {
		in    string
		want  []altService
		clear bool
		bad   bool
	}{
		{in: `h3=":443"; ma=86400`, want: []altService{{"h3", "", "443", day}}},
		{in: `h3=":443"`, want: []altService{{"h3", "", "443", day}}},
		{in: `h3="alt.example.com:8443";ma=60;persist=1 , h2=":443"`, want: []altService{{"h3", "alt.example.com", "8443", time.Minute}, {"h2", "", "443", day}}},
		{in: `h3-29=":443"; MA="5", ,`, want: []altService{{"h3-29", "", "443", 5 * time.Second}}},
		{in: `w%3Dx%3Ay%23z="[::1]:8000"`, want: []altService{{"w=x:y#z", "::1", "8000", day}}},
		{in: `h3=":\443"; x="a\"b"; ma=0`, want: []altService{{"h3", "", "443", 0}}},
		{in: `h3=":443"; ma=99999999999999`, want: []altService{{"h3", "", "443", maxAltSvcAge}}},
		{in: "clear", clear: true},
		{in: "  clear ", clear: true},
		{in: "", want: nil},
		{in: ",", want: nil},
		{in: "Clear", bad: true}, // case-sensitive
		{in: `clear, h3=":443"`, bad: true},
		{in: `h3`, bad: true},
		{in: `h3=`, bad: true},
		{in: `h3=:443`, bad: true},
		{in: `="x:1"`, bad: true},
		{in: `h3="443"`, bad: true},
		{in: `h3=":"`, bad: true},
		{in: `h3=":0"`, bad: true},
		{in: `h3=":65536"`, bad: true},
		{in: `h3=":443`, bad: true},
		{in: `h3=":443\`, bad: true},
		{in: "h3=\":4\x0143\"", bad: true},
		{in: `h3=":443" h2=":443"`, bad: true},
		{in: `h3=":443"; ma`, bad: true},
		{in: `h3=":443"; ma=`, bad: true},
		{in: `h3=":443"; ma=-1`, bad: true},
		{in: `h3=":443"; ma=1h`, bad: true},
		{in: `h3=":443"; =1`, bad: true},
		{in: `h%3="x:1"`, bad: true},
		{in: `h%zz="x:1"`, bad: true},
		{in: strings.Repeat(`h3=":443",`, 1000), bad: true},
	} {
		list, cleared, err := parseAltSvc([]string{tc.in})
		if tc.bad != errors.Is(err, errAltSvc) || tc.bad != (err != nil) {
			t.Errorf("%.40q: error %v", tc.in, err)
		}
		if cleared != tc.clear || fmt.Sprint(list) != fmt.Sprint(tc.want) {
			t.Errorf("%.40q: %v, clear %t", tc.in, list, cleared)
		}
	}
	list, _, err := parseAltSvc([]string{`h2=":443"`, `h3=":443"`}) // two fields are one list
	want(t, len(list), 2)
	want(t, err, nil)
}

// FuzzParseAltSvc holds what any peer may send: no panic, bounded results.
func FuzzParseAltSvc(f *testing.F) {
	for _, s := range []string{`h3=":443"; ma=86400, h2="a:1"; persist=1`, "clear", `h%3D="[::1]:1";a="\"",,`, `h3="`, `%`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, cleared, err := parseAltSvc([]string{s})
		if err != nil && (list != nil || cleared || !errors.Is(err, errAltSvc)) {
			t.Fatalf("%q: %v, %t, %v", s, list, cleared, err)
		}
		if len(list) > len(s)/4 {
			t.Fatalf("%q: %d alternatives", s, len(list))
		}
		for _, svc := range list {
			if svc.protocol == "" || !validPort(svc.port) || svc.maxAge < 0 || svc.maxAge > maxAltSvcAge {
				t.Fatalf("%q: %+v", s, svc)
			}
		}
	})
}
