package h3frame

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFieldSection(t *testing.T) {
	for name, fields := range map[string][]Field{
		"empty":    nil,
		"static":   {{":method", "GET"}, {":scheme", "https"}, {":path", "/"}},
		"name ref": {{":authority", "example.com"}, {"content-length", "12345"}},
		"literal":  {{"x-tailfin", "drain"}, {"x-empty", ""}},
		"octets":   {{"x-bin", "\x00\xff\x80"}},
		"long":     {{"x-long", strings.Repeat("abcdefgh", 900)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := AppendFieldSection([]byte("before"), fields)
			section, ok := bytes.CutPrefix(b, []byte("before"))
			if !ok {
				t.Fatal("what was before is gone")
			}
			got, err := DecodeFieldSection(section, 0)
			if diff := cmp.Diff(fields, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
}

func TestFieldSectionInvalid(t *testing.T) {
	for name, p := range map[string]string{
		"empty":                  "",
		"half a prefix":          "\x00",
		"insert count 1":         "\x02\x00\xd1",
		"negative base":          "\x00\x80\xd1",
		"base without end":       "\x00\x7f\xff",
		"base too long":          "\x00\x7f" + strings.Repeat("\x80", 12) + "\x00",
		"dynamic index":          "\x00\x00\x80",
		"post-base index":        "\x00\x00\x10",
		"dynamic name":           "\x00\x00\x40\x01a",
		"static index 99":        "\x00\x00\xff\x24",
		"cut index":              "\x00\x00\xff",
		"cut name":               "\x00\x00\x23a",
		"cut value":              "\x00\x00\x21a\x05b",
		"no value":               "\x00\x00\x21a",
		"length of 2^62":         "\x00\x00\x27\xff\xff\xff\xff\xff\xff\xff\xff\x3f",
		"Huffman with bad end":   "\x00\x00\x51\x81\x00",
		"integer without an end": "\x00\x00\xff" + strings.Repeat("\xff", 20),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeFieldSection([]byte(p), 0)
			if !wantCode(t, err, ErrCodeQPACKDecompressionFailed).ConnectionError() {
				t.Error("not a connection error")
			}
		})
	}
}

// TestFieldSectionBase has prefixes that are legal without a dynamic table.
func TestFieldSectionBase(t *testing.T) {
	for _, prefix := range []string{"\x00\x00", "\x00\x05", "\x00\x7e", "\x00\x7f\x00", "\x00\x7f\x80\x81\x01"} {
		got, err := DecodeFieldSection([]byte(prefix+"\xd1"), 0)
		if want := []Field{{":method", "GET"}}; !cmp.Equal(want, got) || err != nil {
			t.Errorf("prefix %x: %v, %v", prefix, got, err)
		}
	}
}

func TestFieldSectionSize(t *testing.T) {
	fields := []Field{{"a", "bc"}, {"defg", ""}}
	size := 1 + 2 + 32 + 4 + 32
	if got := FieldSectionSize(fields); got != uint64(size) {
		t.Errorf("FieldSectionSize %d, want %d", got, size)
	}
	p := AppendFieldSection(nil, fields)
	if _, err := DecodeFieldSection(p, size); err != nil {
		t.Error(err)
	}
	_, err := DecodeFieldSection(p, size-1)
	if wantCode(t, err, ErrCodeExcessiveLoad).ConnectionError() {
		t.Error("a field section above our limit ends the connection")
	}
	// One byte a field on the wire: the size is found before all of it is decoded.
	_, err = DecodeFieldSection(append([]byte{0, 0}, bytes.Repeat([]byte{0xd1}, 1<<20)...), 0)
	wantCode(t, err, ErrCodeExcessiveLoad)
}

func FuzzFieldSection(f *testing.F) {
	f.Add(AppendFieldSection(nil, RequestFields(exampleRequest)))
	f.Add(AppendFieldSection(nil, []Field{{":status", "200"}, {"x-a", "1"}, {"cookie", "a=b"}, {"cookie", "c=d"}}))
	f.Add([]byte("\x00\x7f\x80\x01\xd1"))
	f.Add([]byte("\x00\x00\x27\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, p []byte) {
		const limit = 4096
		fields, err := DecodeFieldSection(p, limit)
		if err != nil {
			var frameErr *FrameError
			if !errors.As(err, &frameErr) || fields != nil {
				t.Fatalf("%v with %v", err, fields)
			}
			return
		}
		size := 0
		for _, f := range fields {
			size += f.Size()
		}
		if size > limit {
			t.Fatalf("size %d", size)
		}
		again, err := DecodeFieldSection(AppendFieldSection(nil, fields), limit)
		if err != nil || !cmp.Equal(fields, again) {
			t.Fatalf("%v\n%v\n%v", err, fields, again)
		}
		fuzzMessage(t, fields)
	})
}

// fuzzMessage sees that a head which parses is one that can be sent, and parses
// to itself.
func fuzzMessage(t *testing.T, fields []Field) {
	if head, err := ParseRequestFields(fields); err == nil {
		again, err := ParseRequestFields(RequestFields(head))
		if diff := cmp.Diff(head, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	}
	if head, err := ParseResponseFields(fields); err == nil {
		again, err := ParseResponseFields(ResponseFields(head))
		if diff := cmp.Diff(head, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	}
	if header, err := ParseTrailerFields(fields); err == nil {
		again, err := ParseTrailerFields(TrailerFields(header))
		if diff := cmp.Diff(header, again); err != nil || diff != "" {
			t.Fatalf("%v\n%s", err, diff)
		}
	}
}

func ExampleDecodeFieldSection() {
	section := AppendFieldSection(nil, []Field{{":status", "204"}, {"x-tailfin", "yes"}})
	fields, err := DecodeFieldSection(section, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	head, err := ParseResponseFields(fields)
	fmt.Println(head.Status, head.Header.Get("X-Tailfin"), err)
	// Output: 204 yes <nil>
}
