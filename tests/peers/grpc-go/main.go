// A gRPC client and a server of the demo's service in Go: the same as tests/peers/grpc/peer.py, with the same arguments and the same output.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	v3statuspb "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
	"google.golang.org/grpc/xds/csds"
	"google.golang.org/protobuf/encoding/protowire"
	anyproto "google.golang.org/protobuf/proto"
)

// Longer than a call takes when everything has to be asked for first; shorter than gRPC's own patience with a missing resource.
const limit = 10 * time.Second
const errorsKept = 8

// Between two looks at what was told: a change lasts longer.
const look = 3 * time.Millisecond

// Messages are bytes here, whatever the type.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (raw) Name() string                       { return proto.Name }

// A message whose fields 1, 2, … are these texts.
func encode(texts ...string) []byte {
	var out []byte
	for at, text := range texts {
		out = protowire.AppendTag(out, protowire.Number(at+1), protowire.BytesType)
		out = protowire.AppendString(out, text)
	}
	return out
}

// The texts of a message's fields 1 to count.
func decode(message []byte, count int) []string {
	texts := make([]string, count)
	for len(message) > 0 {
		number, _, length := protowire.ConsumeTag(message)
		if length < 0 {
			break
		}
		text, size := protowire.ConsumeString(message[length:])
		if size < 0 || int(number) > count {
			break
		}
		texts[number-1], message = text, message[length+size:]
	}
	return texts
}

func code(name string) codes.Code {
	var found codes.Code
	if err := found.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil {
		return codes.Unknown
	}
	return found
}

func codeName(wanted codes.Code) string {
	for _, name := range []string{"CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED"} {
		if code(name) == wanted {
			return name
		}
	}
	return wanted.String()
}

// What the metadata ask for, else who called.
func answer(name string, ctx context.Context, request []byte) ([]byte, error) {
	asked, _ := metadata.FromIncomingContext(ctx)
	first := func(key, otherwise string) string {
		if values := asked.Get(key); len(values) > 0 {
			return values[0]
		}
		return otherwise
	}
	number := func(key, otherwise string) int {
		value, _ := strconv.Atoi(first(key, otherwise))
		return value
	}
	time.Sleep(time.Duration(number("x-delay", "0")) * time.Millisecond)
	before := number("grpc-previous-rpc-attempts", "0")
	if wanted := first("x-code", ""); wanted != "" && first("x-fail-at", name) == name && before < number("x-fail-first", "1000") {
		return nil, status.Errorf(code(wanted), "attempt %d", before+1)
	}
	seen := first("x-forwarded-client-cert", "")
	caller, _ := peer.FromContext(ctx)
	if tls, ok := caller.AuthInfo.(credentials.TLSInfo); ok && tls.SPIFFEID != nil {
		seen = "URI=" + tls.SPIFFEID.String()
	} else if ok && len(tls.State.PeerCertificates) > 0 && len(tls.State.PeerCertificates[0].URIs) > 0 {
		seen = "URI=" + tls.State.PeerCertificates[0].URIs[0].String()
	}
	return encode(name, seen, decode(request, 1)[0]), nil
}

func serve(byXds bool, arguments []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "", "where")
	name := flags.String("name", "", "who it says that it is")
	flags.Parse(arguments)
	everything := func(_ any, stream grpc.ServerStream) error {
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		reply, err := answer(*name, stream.Context(), request)
		if err != nil {
			return err
		}
		return stream.SendMsg(&reply)
	}
	options := []grpc.ServerOption{grpc.UnknownServiceHandler(everything), grpc.ForceServerCodec(raw{})}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if !byXds {
		return grpc.NewServer(options...).Serve(listener)
	}
	trust, err := xdscreds.NewServerCredentials(xdscreds.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return err
	}
	server, err := xds.NewGRPCServer(append(options, grpc.Creds(trust))...)
	if err != nil {
		return err
	}
	return server.Serve(listener)
}

type latency struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50"`
	P99   int64 `json:"p99"`
	Max   int64 `json:"max"`
}

// What came of the calls.
type tally struct {
	Sent        int            `json:"sent"`
	Ok          int            `json:"ok"`
	Failed      int            `json:"failed"`
	Refused     int            `json:"refused"`
	Connections int            `json:"connections"`
	Servers     map[string]int `json:"servers"`
	Identities  map[string]int `json:"identities"`
	Errors      []string       `json:"errors"`
	Latency     latency        `json:"latency"`

	lock  sync.Mutex
	begun time.Time
	took  []int64
}

func (t *tally) count(reply []byte, err error, took time.Duration) {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.Sent++
	if err == nil {
		texts := decode(reply, 3)
		identity := "-"
		nearest := texts[1][strings.LastIndex(texts[1], ",")+1:]
		for _, part := range strings.Split(nearest, ";") {
			if uri, found := strings.CutPrefix(part, "URI="); found {
				identity = strings.Trim(uri, "\"")
			}
		}
		t.Ok++
		t.Servers[texts[0]]++
		t.Identities[identity]++
		t.took = append(t.took, took.Microseconds())
		return
	}
	if status.Code(err) == codes.PermissionDenied {
		t.Refused++
	} else {
		t.Failed++
	}
	if len(t.Errors) < errorsKept {
		told := status.Convert(err)
		t.Errors = append(t.Errors, fmt.Sprintf("at %d ms: %s: %s", time.Since(t.begun).Milliseconds(), codeName(told.Code()), told.Message()))
	}
}

func (t *tally) quantiles() latency {
	if len(t.took) == 0 {
		return latency{}
	}
	sort.Slice(t.took, func(a, b int) bool { return t.took[a] < t.took[b] })
	at := func(part float64) int64 { return t.took[int(part*float64(len(t.took)-1))] }
	return latency{len(t.took), at(0.5), at(0.99), at(1)}
}

func channelTo(target string, byXds bool) (*grpc.ClientConn, error) {
	trust := insecure.NewCredentials()
	if byXds {
		var err error
		if trust, err = xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: trust}); err != nil {
			return nil, err
		}
	}
	return grpc.NewClient(target, grpc.WithTransportCredentials(trust), grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
}

// Prints every change of the digits behind a mark in what it was told by xDS.
func watch(byXds bool, arguments []string) error {
	flags := flag.NewFlagSet("watch", flag.ExitOnError)
	target := flags.String("target", "", "whom")
	text := flags.String("mark", "", "what stands before the digits")
	flags.Parse(arguments)
	channel, err := channelTo(*target, byXds)
	if err != nil {
		return err
	}
	channel.Connect()
	told, err := csds.NewClientStatusDiscoveryServer()
	if err != nil {
		return err
	}
	mark := regexp.MustCompile(regexp.QuoteMeta(*text) + `(\d+)`)
	last := ""
	for range time.Tick(look) {
		state, err := told.FetchClientStatus(context.Background(), &v3statuspb.ClientStatusRequest{})
		if err != nil {
			return err
		}
		bytes, err := anyproto.Marshal(state)
		if err != nil {
			return err
		}
		if found := mark.FindSubmatch(bytes); found != nil && string(found[1]) != last {
			last = string(found[1])
			fmt.Println("mark", last)
		}
	}
	return nil
}

func call(byXds bool, arguments []string) error {
	flags := flag.NewFlagSet("call", flag.ExitOnError)
	target := flags.String("target", "", "whom")
	method := flags.String("method", "/demo.Greeter/Hello", "what")
	count := flags.Int("count", 1, "how often")
	connections := flags.Int("connections", 1, "how many at once")
	body := flags.String("body", "hello", "what is said")
	var headers []string
	flags.Func("header", "name: value", func(one string) error { headers = append(headers, one); return nil })
	flags.Parse(arguments)
	channel, err := channelTo(*target, byXds)
	if err != nil {
		return err
	}
	sent := metadata.MD{}
	for _, one := range headers {
		key, value, _ := strings.Cut(one, ":")
		sent.Append(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	found := &tally{Connections: 1, Servers: map[string]int{}, Identities: map[string]int{}, Errors: []string{}, begun: time.Now()}
	request := encode(*body)
	due := make(chan struct{})
	var working sync.WaitGroup
	for range *connections {
		working.Go(func() {
			for range due {
				ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(context.Background(), sent), limit)
				begun := time.Now()
				var reply []byte
				err := channel.Invoke(ctx, *method, &request, &reply)
				cancel()
				found.count(reply, err, time.Since(begun))
			}
		})
	}
	for range *count {
		due <- struct{}{}
	}
	close(due)
	working.Wait()
	found.Latency = found.quantiles()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"to": *target, "tally": found, "recent": found.Latency})
}

func run() error {
	bootstrap := flag.String("bootstrap", "", "has its configuration by xDS")
	flag.Parse()
	const told = "GRPC_XDS_BOOTSTRAP"
	if *bootstrap != "" && os.Getenv(told) != *bootstrap {
		// gRPC has read its environment before main: begin again with it.
		// Without the second, grpc-go does not say in SNI which port it wants at a mesh port.
		for name, value := range map[string]string{told: *bootstrap, "GRPC_EXPERIMENTAL_XDS_SNI": "true"} {
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
		own, err := os.Executable()
		if err != nil {
			return err
		}
		return syscall.Exec(own, os.Args, os.Environ())
	}
	roles := map[string]func(bool, []string) error{"serve": serve, "call": call, "watch": watch}
	role, found := roles[flag.Arg(0)]
	if !found {
		return errors.New("say serve, call or watch")
	}
	return role(*bootstrap != "", flag.Args()[1:])
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
