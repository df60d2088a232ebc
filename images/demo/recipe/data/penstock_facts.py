"""Facts about Penstock that stand alone: each with many hand-written questions; "~" marks those held out.

Source: design.md, machinery.md, arithmetic.md, api.md. An entry is (questions, answer, phrases a right reply contains).
"""

FACTS = [
    (
        """What is Penstock?
        What is Penstock for?
        What does Penstock do?
        Tell me about Penstock.
        Explain Penstock.
        Explain Penstock in one sentence.
        What kind of software is Penstock?
        What can I use Penstock for?
        Describe Penstock.
        Why would I use Penstock?
        Give me a summary of Penstock.
        penstock
        ~ What is this Penstock thing?
        ~ Can you say in short what Penstock is?
        ~ What is the purpose of Penstock?""",
        "Penstock is an inference appliance for DeepSeek-V3-class mixture-of-experts models. It streams the experts that "
        "each token needs from an NVMe drive.",
        ["inference appliance", "experts"],
    ),
    (
        """What does the name Penstock mean?
        Why is it called Penstock?
        Where does the name Penstock come from?
        What is a penstock?
        What does the word penstock mean?
        Why the name Penstock?
        Explain the name Penstock.
        ~ What is the meaning of the name Penstock?
        ~ How did Penstock get its name?""",
        "A penstock is the pipe that carries water from a reservoir, through a gate, to a turbine. Here the reservoir is the "
        "drive, the gate is the model's router and the turbine is the GPU or CPU.",
        ["pipe", "reservoir"],
    ),
    (
        """Which models does Penstock run?
        Which models are supported?
        What models can I run?
        Can Penstock run DeepSeek-V3?
        Can Penstock run DeepSeek-R1?
        Can I run DeepSeek with Penstock?
        Does Penstock support Kimi K2?
        Does Penstock run Moonlight?
        Which model families does Penstock support?
        Does Penstock run V2-Lite?
        ~ What models work with Penstock?
        ~ Is DeepSeek-V3 supported by Penstock?""",
        "Penstock runs DeepSeek-V3 and its relatives: V2, V3, V3.1, R1, Moonlight and Kimi K2.",
        ["deepseek-v3", "relatives"],
    ),
    (
        """Can Penstock run llama?
        Does Penstock support Llama models?
        Can I run Qwen with Penstock?
        Does Penstock run GPT-2?
        Can Penstock run Mistral?
        Does it support Gemma?
        Can I use a GGUF file with Penstock?
        ~ Will a Llama model work with Penstock?
        ~ Is Qwen supported?""",
        "No. Penstock runs only the DeepSeek-V3 family.",
        ["only the deepseek-v3 family"],
    ),
    (
        """Does the model have to fit into memory?
        Can I run a model that is larger than my RAM?
        What if the model is bigger than memory?
        How can a model larger than memory run?
        How much RAM do I need for DeepSeek-V3?
        My model does not fit into RAM.
        Can it run a model larger than the GPU memory?
        How does Penstock run such large models?
        ~ Is it possible to run a model that does not fit in memory?
        ~ What happens with a model larger than RAM?""",
        "A model larger than RAM and GPU memory runs too: routed experts are read from the drive on demand, at the speed the "
        "drive allows.",
        ["from the drive on demand"],
    ),
    (
        """What are the promises of Penstock?
        What does Penstock promise?
        Which promises does Penstock make?
        List the promises.
        What is in the file PROMISES?
        What guarantees does Penstock give?
        ~ What can I rely on with Penstock?
        ~ Name Penstock's promises.""",
        "Penstock promises six things: any size, faithful, deterministic, unkillable, closed and small.",
        ["any size, faithful, deterministic, unkillable, closed and small"],
    ),
    (
        """What does deterministic mean for Penstock?
        Is Penstock deterministic?
        Do I get the same tokens every time?
        Are the answers reproducible?
        Does the number of threads change the answer?
        Does the batch change the tokens?
        Does the cache change the answer?
        Will the same seed give the same answer?
        ~ Are results repeatable with Penstock?
        ~ Do other requests change my reply?""",
        "Penstock is deterministic: the same prompt, seed and model give the same tokens, whatever the load, threads, cache or "
        "instruction set.",
        ["same prompt, seed and model", "same tokens"],
    ),
    (
        """What does faithful mean?
        Are the answers exact?
        Does Penstock approximate the model?
        Is anything pruned or skipped?
        Does Penstock skip experts?
        Are the logits right?
        Does Penstock change the model?
        ~ Is the model computed exactly?
        ~ Does Penstock leave anything out of the model?""",
        "Faithful means that logits agree with the reference and nothing is pruned, skipped or approximated unless you ask for "
        "it by name.",
        ["nothing is pruned, skipped or approximated"],
    ),
    (
        """What happens when a server dies?
        What happens if a process crashes?
        What if I kill a server?
        Can I kill a server?
        What does unkillable mean?
        Is Penstock fault tolerant?
        Does my reply survive a crash?
        What happens when a server is killed?
        What happens after a crash?
        How does Penstock handle crashes?
        ~ What if one of the servers crashes in the middle of a reply?
        ~ Does a crash stop my answer?
        ~ A server was killed. What now?""",
        "init notices the death and a warm spare goes on where the dead server stood. Replies continue byte for byte within "
        "milliseconds.",
        ["warm spare", "continue byte for byte"],
    ),
    (
        """What does closed mean?
        Is Penstock secure?
        Are the servers sandboxed?
        Can a server open files?
        Can a server use the network?
        What is the sandbox?
        How are the servers protected?
        Which system calls may a server use?
        ~ How safe are the servers?
        ~ May a server do more than its job?""",
        "Closed means that each server is sandboxed: no network, no file it was not handed, and no system call it does not need.",
        ["sandboxed", "no network"],
    ),
    (
        """Why is Penstock built like a microkernel?
        What is the architecture of Penstock?
        How is Penstock built?
        Is Penstock a microkernel?
        How many processes has a node?
        What processes are there?
        Which servers does a node have?
        List the servers of a node.
        Which processes run on a node?
        What are the parts of Penstock?
        ~ How is a node put together?
        ~ Name the processes of Penstock.""",
        "A node is a small set of processes: init, gateway, router, mla, experts, loader and scribe, and cuda where there is a "
        "GPU. They share memory and can each die and come back.",
        ["init, gateway, router, mla, experts, loader and scribe"],
    ),
    (
        """How does a token pass through a node?
        How is a token computed?
        What is the circle?
        How does a forward pass work?
        In which order do the servers work?
        What happens in one layer?
        How does a pass go through the servers?
        Explain the circle of a pass.
        ~ What way does a token take through the servers?
        ~ How do the servers work together for one token?""",
        "For each layer a pass goes from mla to router, whose gate picks the experts, then to experts, and on to the next "
        "layer's mla. At the end router samples the token.",
        ["from mla to router", "then to experts"],
    ),
    (
        """How do the servers talk to each other?
        How do the processes communicate?
        What is a ring?
        What are rings for?
        How are messages passed?
        How large is a message?
        What connects the servers?
        ~ In which way do the servers exchange messages?
        ~ What is used between the processes?""",
        "The servers talk through rings in shared memory: one producer, one consumer, messages of 64 bytes.",
        ["rings in shared memory", "64 bytes"],
    ),
    (
        """What is a commit word?
        How does a server commit?
        What is committed?
        How does a successor know where to go on?
        How does a restarted server continue?
        What state does a server have?
        ~ How does a new server find its place?
        ~ What makes a step of a server final?""",
        "Each server has one commit word: a version that selects one of two records. A successor reads the record and goes on "
        "from there.",
        ["one commit word"],
    ),
    (
        """What is an expert?
        What are experts?
        What is a routed expert?
        What is a mixture of experts?
        What does MoE mean?
        What is a shared expert?
        Explain experts.
        Explain mixture of experts.
        ~ What is meant by an expert in the model?
        ~ How does a mixture-of-experts model work?""",
        "An expert is a feed-forward network of a layer. The gate picks a few routed experts for each token; the shared expert "
        "is used by all.",
        ["feed-forward", "gate picks"],
    ),
    (
        """What is the gate?
        What does the gate do?
        How are experts chosen?
        How does the gate work?
        Who picks the experts?
        How does the model choose its experts?
        What is routing?
        ~ In which way does the gate select experts?
        ~ What decides which experts are used?""",
        "The gate is the model's own router: it scores all experts for a token and picks the best ones, from a few groups.",
        ["scores all experts"],
    ),
    (
        """What is a slot?
        What is an expert slot?
        What are slots for?
        How many slots do I need?
        Where are experts kept in memory?
        What is the fewest number of slots?
        Explain slots.
        ~ What does slot mean here?
        ~ What do you call the memory of one expert?""",
        "A slot is the memory for one expert. Two slots are the fewest with which a node runs; more slots mean more hits.",
        ["memory for one expert"],
    ),
    (
        """How are experts read from the drive?
        How does Penstock read the drive?
        Does Penstock use io_uring?
        Does Penstock use the page cache?
        What is O_DIRECT used for?
        How do the weights come from the NVMe drive?
        How does streaming work?
        How does expert streaming work?
        ~ By which means are experts loaded from disk?
        ~ What does Penstock use to read from the SSD?""",
        "Experts are read with io_uring and O_DIRECT straight into slots, many reads at once; the page cache is not used.",
        ["io_uring", "o_direct"],
    ),
    (
        """What is a hint?
        What are hints for?
        Does Penstock prefetch experts?
        How does Penstock guess the next experts?
        What is prefetching?
        Explain hints.
        ~ Does Penstock read experts in advance?
        ~ What is a hint good for?""",
        "A hint is a guess which experts the next layer needs, so that the drive stays busy. It never delays a read that is needed.",
        ["guess", "next layer"],
    ),
    (
        """What is a store?
        What is a packed store?
        What is the difference between a checkpoint and a store?
        Do I need to convert a model?
        Must I convert my checkpoint?
        Which formats does Penstock read?
        Which file format does Penstock use?
        What is MODEL on the command line?
        Does Penstock read safetensors?
        ~ In which form must a model be?
        ~ Is a conversion of the model needed?""",
        "A model is a Hugging Face checkpoint directory, opened as it is without conversion, or a packed store made by "
        "`penstock pack`.",
        ["without conversion", "packed store"],
    ),
    (
        """What is MLA?
        What does MLA mean?
        What is multi-head latent attention?
        How does attention work in DeepSeek-V3?
        What is the latent?
        Explain MLA.
        Why is the KV cache so small?
        ~ What kind of attention does the model use?
        ~ What is latent attention?""",
        "MLA is multi-head latent attention: keys and values are kept as one small latent per token, so the KV cache is small.",
        ["multi-head latent attention"],
    ),
    (
        """What is the KV cache?
        How large is the KV cache?
        What is a KV page?
        How many positions has a page?
        How is the KV cache organised?
        How is the KV stored?
        ~ In which units is the KV cache kept?
        ~ How big is a page of the KV cache?""",
        "The KV cache holds the latents of earlier tokens, in pages of 256 positions for all layers. mla owns it.",
        ["pages of 256 positions"],
    ),
    (
        """What is MTP?
        What does MTP mean?
        What is multi-token prediction?
        What is speculative decoding?
        Does Penstock use speculation?
        Does MTP change the tokens?
        Explain MTP.
        ~ What is the MTP module for?
        ~ How does multi-token prediction help?""",
        "MTP is multi-token prediction: a small module guesses the token after next, and the model checks it. It changes the "
        "speed, never the tokens.",
        ["multi-token prediction", "never the tokens"],
    ),
    (
        """What is YaRN?
        What does YaRN do?
        How is the context extended?
        Explain YaRN.
        What is YaRN for?
        ~ How does the model reach a longer context?
        ~ What is YaRN good for?""",
        "YaRN stretches the rotary positions so that a model works on a longer context than it was first trained on.",
        ["longer context"],
    ),
    (
        """What is FP8?
        What is E4M3?
        Which number format do the weights have?
        How are the weights stored?
        What are block scales?
        What does 128x128 mean?
        What precision do the weights have?
        ~ In what format are weights kept?
        ~ What is an FP8 checkpoint?""",
        "Weights are stored as FP8 E4M3, one byte each, with one scale for every block of 128x128.",
        ["fp8", "128x128"],
    ),
    (
        """What is prefill?
        What is a prefill chunk?
        What is the difference between prefill and decode?
        What is decode?
        Explain prefill.
        Why does the first token take longer?
        ~ What do prefill and decode mean?
        ~ Why is the start of a reply slow?""",
        "Prefill reads the prompt in chunks; decode makes one token at a time. In prefill each expert is read once per chunk.",
        ["prefill reads the prompt"],
    ),
    (
        """Does Penstock need a GPU?
        Do I need a GPU?
        Can Penstock run without a GPU?
        Does Penstock run on the CPU?
        Can I use my graphics card?
        Does Penstock support CUDA?
        Which GPUs are supported?
        ~ Is a graphics card required?
        ~ Will it run on a machine without a GPU?""",
        "A GPU is optional. Where there is one, the cuda process uses it; without it the CPU does the work, with the same tokens.",
        ["gpu is optional"],
    ),
    (
        """What is the default socket?
        Where is the socket?
        Where does Penstock listen?
        What is the path of the socket?
        Which socket does Penstock use?
        Where do I find the socket of a node?
        ~ At which path is the socket?
        ~ On which socket does a node listen?""",
        "The socket is /run/penstock/penstock.sock, or in $XDG_RUNTIME_DIR where that cannot be used.",
        ["/run/penstock/penstock.sock"],
    ),
    (
        """Which port does Penstock use?
        Does Penstock listen on a port?
        Can I reach Penstock over the network?
        Can Penstock listen on TCP?
        How do I reach a node over the network?
        Does Penstock open a port?
        ~ On which port does a node listen?
        ~ Is there a TCP port?""",
        "Penstock opens no port: it listens on a Unix socket only. Put an HTTP proxy such as nginx or HAProxy before it.",
        ["unix socket only"],
    ),
    (
        """How do I use the API?
        Which API does Penstock have?
        Is there an API?
        Is the API compatible with OpenAI?
        Can I use the OpenAI client?
        How do I call Penstock with curl?
        How can I use curl with Penstock?
        How do programs talk to a node?
        What does the API look like?
        ~ In which way can my program use a node?
        ~ Does Penstock speak the OpenAI protocol?""",
        "The API is OpenAI's, on a Unix socket: use `curl --unix-socket PATH` or the usual client libraries.",
        ["openai", "--unix-socket"],
    ),
    (
        """How do I stream a reply?
        Does the API stream?
        How do I get tokens as they come?
        What does stream do?
        How does a stream end?
        ~ Can I get the reply piece by piece?
        ~ How do I switch on streaming?""",
        'Set "stream": true. The reply comes as server-sent events and ends with data: [DONE].',
        ["stream", "[done]"],
    ),
    (
        """How do I turn on thinking?
        How do I enable reasoning?
        How do I make the model think?
        What is thinking mode?
        How do I see the reasoning?
        How do I turn off thinking?
        Where is the reasoning in the reply?
        ~ How can I switch the reasoning on?
        ~ How do I use thinking over the API?""",
        'Set "thinking": true in the request. The reasoning comes apart from the answer, as reasoning_content.',
        ["thinking", "reasoning_content"],
    ),
    (
        """Does Penstock support tools?
        Can I use function calling?
        Does the API support tool calls?
        Are tools supported?
        Can the model call functions?
        ~ Is function calling possible?
        ~ Do tools work with the API?""",
        "Not yet: `penstock template` renders tools, but the API refuses them until it can parse the calls.",
        ["refuses"],
    ),
    (
        """Can I get several choices at once?
        Does the API support n greater than 1?
        Does Penstock support logprobs?
        Which options are not supported?
        What happens with an unknown field?
        Are unsupported options ignored?
        ~ What does the API do with options it does not know?
        ~ Is an unknown option ignored?""",
        "Nothing is ignored in silence: an option without effect is accepted only at its neutral value, else the answer is 400.",
        ["neutral value", "400"],
    ),
    (
        """How do I stop a reply?
        How do I stop the model?
        What does Ctrl-C do?
        How do I cancel an answer?
        What happens when I press Ctrl-C?
        ~ How can I interrupt a reply?
        ~ The answer is too long, how do I stop it?""",
        "Ctrl-C stops the reply and not the program. Over the API, closing the connection stops it within one token.",
        ["stops the reply"],
    ),
    (
        """How do I stop a node?
        How do I shut down Penstock?
        How do I end a node?
        What does SIGTERM do?
        How do I quit Penstock?
        What happens at shutdown?
        ~ How can I stop Penstock?
        ~ What is the right way to shut a node down?""",
        "Send SIGTERM or press Ctrl-C: new requests get 503, running replies have 30 s to finish, then the node ends.",
        ["sigterm", "30 s"],
    ),
    (
        """How do I build Penstock?
        How do I compile Penstock?
        What do I need to build Penstock?
        How is Penstock built from source?
        What is build.sh?
        Where are the programs after the build?
        ~ How can I compile it?
        ~ Which command builds Penstock?""",
        "Run `./build.sh build`. The programs are then in build/bin/.",
        ["./build.sh build"],
    ),
    (
        """How do I try Penstock?
        How do I start?
        How do I get started?
        How do I begin with Penstock?
        What is the quickest way to try it?
        How do I run the demo?
        How do I start the demo model?
        What does ./build.sh run do?
        ~ I am new here. What should I do first?
        ~ How can I try the demo?""",
        "Run `./build.sh build` once, then `./build.sh run`: it starts a node on the demo model and opens a chat.",
        ["./build.sh run", "demo model"],
    ),
    (
        """How do I run the tests?
        How is Penstock tested?
        What does ./build.sh test do?
        How do I test my build?
        Which tests are there?
        ~ How can I run all tests?
        ~ What command starts the tests?""",
        "Run `./build.sh test`. The tests speak TAP and are run by prove.",
        ["./build.sh test"],
    ),
    (
        """What is the demo model?
        Which model comes with Penstock?
        Where is the demo model?
        How large is the demo model?
        Is there a model included?
        Do I have to download a model?
        ~ What model is included in the project?
        ~ Do I need the internet for a first try?""",
        "The demo model is a tiny DeepSeek-V3 of about 17 million parameters in images/demo. It needs no download.",
        ["demo model", "images/demo"],
    ),
    (
        """Which licence does Penstock have?
        In which language is Penstock written?
        What is Penstock written in?
        Is Penstock written in Rust?
        Is Penstock written in C?
        Which programming language does Penstock use?
        ~ What language was used to write Penstock?
        ~ Is Penstock a C program?""",
        "Penstock is written in C17 and linked statically with musl.",
        ["c17", "musl"],
    ),
    (
        """Which libraries does Penstock use?
        What are the dependencies?
        What does Penstock depend on?
        Which JSON library is used?
        Which HTTP parser is used?
        ~ What third-party code does Penstock use?
        ~ On which libraries is Penstock built?""",
        "Penstock uses musl, liburing, yyjson, PCRE2 and llhttp, and CUDA where there is a GPU.",
        ["liburing, yyjson, pcre2 and llhttp"],
    ),
    (
        """What if I have several drives?
        Can I use more than one drive?
        Does Penstock stripe over drives?
        Can I use two SSDs?
        How do I use several drives?
        ~ Are several drives faster?
        ~ Does it help to have more SSDs?""",
        "With several drives each expert is striped across them, so their speeds add up.",
        ["striped"],
    ),
    (
        """Can I use several machines?
        How do I serve more users?
        How does Penstock scale?
        Can one model run on several machines?
        What if one node is not enough?
        ~ How can I serve many users?
        ~ Does Penstock scale beyond one machine?""",
        "A node is one machine. For more users put more nodes behind a balancer such as HAProxy, nginx or Envoy.",
        ["more nodes", "balancer"],
    ),
    (
        """What limits the speed?
        Why is it slow?
        Why is Penstock so slow?
        How do I make it faster?
        How fast is Penstock?
        How many tokens per second do I get?
        What makes Penstock faster?
        ~ What determines the speed of a node?
        ~ My node is slow. What helps?""",
        "The drive limits the speed: each token needs its experts. More RAM for slots, faster drives or a GPU help; `penstock "
        "bench` shows the limits.",
        ["drive limits the speed"],
    ),
    (
        """How does Penstock boot?
        What is a bootable node?
        Can Penstock boot by itself?
        What is in a boot image?
        Can I boot a machine into Penstock?
        Does Penstock need an operating system?
        ~ What does a boot image consist of?
        ~ Can a machine run nothing but Penstock?""",
        "A boot image is a Linux kernel and a handful of static binaries; init is PID 1. `penstock image` makes it.",
        ["kernel", "static binaries"],
    ),
    (
        """What happens when the drive has an error?
        What if a read fails?
        What happens on a short read?
        What if an expert is damaged?
        What happens if the weights are corrupt?
        How are drive errors handled?
        ~ What does a node do about a bad expert?
        ~ The drive reports an error. What happens?""",
        "A short read is continued and an error retried, then named. The replies that need a damaged expert end with an error; "
        "the node goes on.",
        ["retried", "named"],
    ),
    (
        """How does Penstock sample?
        What does temperature 0 do?
        Is sampling random?
        How is the next token chosen?
        What is the sampler?
        How is the seed chosen?
        ~ By what rule is a token picked?
        ~ What does the sampler depend on?""",
        "The sampler is a pure function of logits, options, seed and position. Without a seed a fresh one is drawn and returned.",
        ["pure function", "seed"],
    ),
    (
        """What happens to a second request?
        Can several people use a node at once?
        How many requests run at once?
        What happens when the node is busy?
        What happens when too many requests come?
        What is the queue?
        ~ Can two users ask at the same time?
        ~ What does a busy node do with a new request?""",
        "Eight requests run at once by default; more wait in a queue, and when it is full the answer is 429.",
        ["eight requests", "429"],
    ),
    (
        """Does Penstock reuse a common prefix?
        What is prompt caching?
        Are prompts cached?
        What is cached_tokens?
        Does a long chat get slower?
        Is the beginning of a prompt computed again?
        ~ Does Penstock cache prompts?
        ~ Must the same prompt be computed twice?""",
        "A prompt that begins like an earlier one starts behind it: its KV pages are found by their tokens and used again.",
        ["starts behind it"],
    ),
    (
        """What is the largest context?
        How long can a prompt be?
        How long may my prompt be?
        What is context_length_exceeded?
        My prompt is too long.
        What is the default context?
        ~ What is the limit for a prompt?
        ~ What happens with a prompt that is too long?""",
        "The default context is 8K or the model's if less; a longer prompt is refused with 400 and context_length_exceeded, "
        "never cut.",
        ["8k", "context_length_exceeded"],
    ),
    (
        """How large is an expert of DeepSeek-V3?
        How big is one expert?
        How large is DeepSeek-V3?
        How many parameters has DeepSeek-V3?
        How many experts does DeepSeek-V3 have?
        How much disk does DeepSeek-V3 need?
        ~ What size is DeepSeek-V3?
        ~ How many bytes is an expert of V3?""",
        "DeepSeek-V3 has 671 billion parameters and 256 routed experts a layer, 8 of them per token; one expert is 44 MB in FP8.",
        ["671 billion", "44 mb"],
    ),
    (
        """The message says that the memory limit is too low. What do I do?
        What does ulimit -l have to do with Penstock?
        Penstock says that it cannot lock memory.
        Why does run name ulimit -l?
        What is the memlock limit for?
        ~ run ends and mentions ulimit -l. Why?
        ~ What must I do about the memlock limit?""",
        "The slots are registered with io_uring, which needs locked memory. Raise `ulimit -l` or give CAP_IPC_LOCK.",
        ["ulimit -l"],
    ),
    (
        """The message says that a checksum is wrong. What now?
        What do I do about a wrong checksum?
        store: checksum does not match the index
        verify reports a damaged file.
        My model file is damaged.
        ~ A checksum differs from the index. What should I do?
        ~ What if verify finds a bad checksum?""",
        "The file is damaged: run `penstock verify` to see where, and copy the file again.",
        ["penstock verify", "copy the file again"],
    ),
    (
        """The message says that a tensor is missing.
        What do I do when a tensor is missing?
        error: tensor not found
        Why does Penstock say that a file of the model is missing?
        The checkpoint is incomplete.
        ~ Penstock cannot find a tensor. What now?
        ~ A shard of the model is missing.""",
        "The checkpoint is incomplete: download the missing file again. Penstock exits with 3 and names file and tensor.",
        ["incomplete", "exits with 3"],
    ),
    (
        """ask says that it cannot connect to the socket.
        penstock ask: cannot connect
        Why can't ask reach the node?
        chat says no such file or directory for the socket.
        It says connection refused.
        ~ penstock chat cannot find the socket. Why?
        ~ What do I do when ask cannot reach a node?""",
        "No node is running on that socket: start one with `penstock run MODEL`, or name its socket with --socket.",
        ["no node is running", "--socket"],
    ),
]
