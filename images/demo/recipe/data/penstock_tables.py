"""Facts about Penstock that come in tables: commands, options, exit codes, servers, folders, endpoints, statuses.

Each table row has the subject, several ways to name what it is for (the last one is held out), and one answer with the
phrases that a right reply must contain. Each table has its own templates. Source: design.md, api.md, machinery.md.
"""

from .sample import wordings

# command: what people want when they need it (the last is held out), answer, phrases that must be in the reply
COMMANDS = {
    "run": (
        [
            "start a node",
            "launch a node",
            "run a model",
            "start a model",
            "serve a model",
            "bring up a node",
            "get a model going",
        ],
        "`penstock run MODEL` starts a node on a model. It stays in the foreground, and its process id is that of init.",
        ["penstock run", "starts a node"],
    ),
    "ask": (
        [
            "ask one question",
            "ask a node a question",
            "get one answer",
            "send a single question",
            "put a question to a node",
        ],
        '`penstock ask "question"` sends one question to a running node and prints the answer.',
        ["penstock ask", "one question"],
    ),
    "chat": (
        [
            "chat with a node",
            "have a conversation",
            "talk to a node",
            "open a chat",
            "talk with the model",
            "converse with a model",
        ],
        "`penstock chat` opens a conversation with a running node. Ctrl-C stops the reply and not the program.",
        ["penstock chat", "conversation"],
    ),
    "score": (
        [
            "get log-probabilities",
            "compute log-probabilities",
            "dump logits",
            "write the raw logits to a file",
            "compare logits with a reference",
            "see the probabilities of a text",
        ],
        "`penstock score MODEL PROMPTS` prints log-probabilities; with --logits, --routes and --mtp-logits it writes raw outputs.",
        ["penstock score", "log-probabilities"],
    ),
    "tokenize": (
        [
            "turn text into token ids",
            "tokenize a text",
            "see the tokens of a text",
            "get token ids",
            "convert text to ids",
        ],
        "`penstock tokenize MODEL` turns text into token ids, and back with --decode. It reads and prints lines of JSON.",
        ["penstock tokenize", "token ids"],
    ),
    "template": (
        [
            "render a chat template",
            "see the prompt of a chat",
            "turn messages into text",
            "apply a chat template",
            "show how messages become a prompt",
        ],
        "`penstock template MODEL` renders chat messages into the text and ids that the model sees.",
        ["penstock template", "messages"],
    ),
    "info": (
        [
            "see what a model is",
            "know what a model needs",
            "inspect a model",
            "look at a model",
            "show a model's details",
            "find out what a model needs",
        ],
        "`penstock info MODEL` shows what a model is and what it needs.",
        ["penstock info", "what it needs"],
    ),
    "verify": (
        [
            "check a model for damage",
            "check every byte of a model",
            "verify a model",
            "find corrupt weights",
            "make sure that a model is intact",
        ],
        "`penstock verify MODEL` checks every byte of a model.",
        ["penstock verify", "every byte"],
    ),
    "synth": (
        [
            "make a random checkpoint",
            "create a random model",
            "generate a test model",
            "make fake weights",
            "produce a random model for a test",
        ],
        "`penstock synth SHAPE DIR` writes a random checkpoint of any shape, at drive speed.",
        ["penstock synth", "random checkpoint"],
    ),
    "pack": (
        [
            "make a packed store",
            "pack a model",
            "convert a checkpoint to a store",
            "shrink a model to 4 bits",
            "quantise a model to 4 bits",
            "turn a checkpoint into a store",
        ],
        "`penstock pack HF_DIR STORE` makes a packed store from a checkpoint, with --bits 8 or 4. It is resumable.",
        ["penstock pack", "packed store"],
    ),
    "bench": (
        [
            "measure speed",
            "benchmark a model",
            "see how fast a model runs",
            "measure tokens per second",
            "test the speed of this machine",
        ],
        "`penstock bench MODEL` measures the speed and shows it beside the limits of the machine.",
        ["penstock bench", "speed"],
    ),
    "plan": (
        [
            "estimate speed before buying hardware",
            "plan hardware",
            "predict tokens per second",
            "know which hardware to buy",
            "estimate the speed of a machine I do not have",
        ],
        "`penstock plan MODEL` estimates tokens per second before you buy hardware.",
        ["penstock plan", "before you buy"],
    ),
    "top": (
        [
            "watch a node live",
            "see what a node is doing",
            "see the load of a node",
            "monitor a node",
            "have a live view of a node",
        ],
        "`penstock top` shows a live view of a running node: tokens, reads, hits and restarts.",
        ["penstock top", "live view"],
    ),
    "chaos": (
        [
            "kill servers as a test",
            "test that servers survive being killed",
            "try crashes",
            "test crash recovery",
            "see whether replies survive a crash",
        ],
        "`penstock chaos` kills servers of a node and checks that the replies stay the same.",
        ["penstock chaos", "kills servers"],
    ),
    "image": (
        [
            "make a bootable disk",
            "build a boot image",
            "create a bootable image",
            "make a bootable node",
            "put a node on a bootable disk",
        ],
        "`penstock image STORE OUT` makes a bootable disk with a kernel, the servers and the model.",
        ["penstock image", "bootable disk"],
    ),
    "relay": (
        [
            "reach a booted node from the host",
            "get the socket of a booted node",
            "connect to a virtual machine's node",
            "talk to a booted node",
        ],
        "`penstock relay` runs on the host and makes the API of a booted node a Unix socket again.",
        ["penstock relay", "host"],
    ),
    "doctor": (
        [
            "check whether my machine is good enough",
            "check this machine",
            "know if this machine would do",
            "see whether Penstock runs here",
            "test whether my computer is suitable",
        ],
        "`penstock doctor` says whether this machine would do.",
        ["penstock doctor", "this machine would do"],
    ),
}
COMMAND_ASKED = wordings(
    """[What|Which thing] [does|would] [penstock {c}|`penstock {c}`|the command {c}|the {c} command|the subcommand {c}] do[?| for me?| exactly?]
    [What|When|Why] [is|do I need|would I need|should I use|would anyone use] [penstock {c}|`penstock {c}`|the command {c}|the {c} command][?| for?]
    [Explain|Describe|Tell me about|I do not understand|Help me with|How do I use|Give me a word on|I have a question about] [penstock {c}|`penstock {c}`|the command {c}|the {c} command|the subcommand {c}][.|?|]
    [Somebody|My colleague|A script|The manual|The README] [uses|calls|runs|mentions] [penstock {c}|`penstock {c}`][. What does it do?|. Why?|. What is that?]
    What does `penstock {c}` do?
    What does penstock {c} do?
    What is penstock {c}?
    What is `penstock {c}` for?
    What is the command {c} for?
    What does the {c} command do?
    Explain penstock {c}.
    Explain the command `penstock {c}`.
    Tell me about penstock {c}.
    When do I use penstock {c}?
    How do I use penstock {c}?
    How do I use the {c} command?
    What happens when I type penstock {c}?
    Why would I run penstock {c}?
    Describe the {c} command of Penstock.
    What can I do with penstock {c}?
    penstock {c}
    penstock {c}?
    ~ What is the purpose of penstock {c}?
    ~ What is the {c} command of Penstock good for?
    ~ Can you explain what penstock {c} does?
    ~ I saw `penstock {c}` in a script. What is it?"""
)
GOAL_ASKED = wordings(
    """[How|In what way|By which command|With what] [do I|can I|could I|would one|does one|should I|may I|am I to] {g}[?| with Penstock?| here?]
    [I want|I need|I would like|I'd like|I am trying|We have|I am asked] to {g}[.|. How?|. What now?|. Which command?]
    [What|Which] [command|subcommand|program|tool] [do I need|do I use|is there|lets me|helps me|would I use|is for this:] [to |]{g}?
    [Show|Tell|Teach] me how [to|I can|one can] {g}[.|, please.]
    [Is there|Is it possible|Does Penstock offer] [a command|a way|something] to {g}?
    [The|Which] command to {g}[?|, please.]
    How do I {g}?
    How can I {g}?
    How do I {g} with Penstock?
    How can I {g} with Penstock?
    How does one {g}?
    Which command do I need to {g}?
    Which command lets me {g}?
    What command is there to {g}?
    What do I type to {g}?
    I want to {g}.
    I want to {g}. What do I do?
    I would like to {g}.
    I need to {g}.
    What is the command to {g}?
    Is there a command to {g}?
    Can Penstock {g}?
    Show me how to {g}.
    Tell me how to {g}.
    How would I {g}?
    Can I {g}?
    ~ What should I run to {g}?
    ~ What is the way to {g} here?
    ~ Please show me the command with which I can {g}.
    ~ How is it possible to {g}?"""
)

# option: (what it sets, other ways to ask for it; the last is held out), answer, phrases
OPTIONS = {
    "--socket": (
        ["choose the socket", "change the path of the socket", "put the socket elsewhere", "set where the socket is"],
        "`--socket PATH` sets the path of the Unix socket. The default is /run/penstock/penstock.sock.",
        ["--socket", "/run/penstock/penstock.sock"],
    ),
    "--memory": (
        [
            "limit the memory",
            "limit how much RAM a node uses",
            "set the memory",
            "make a node use less memory",
            "cap the RAM of a node",
        ],
        "`--memory N` limits all memory of the node. If it is too little, the node refuses to start and names the missing figure.",
        ["--memory", "limits"],
    ),
    "--context": (
        [
            "set the context length",
            "change the context size",
            "allow longer prompts",
            "get a longer context",
            "raise the context length",
        ],
        "`--context N` sets the context length of a node. The default is 8K, or the model's own if that is less.",
        ["--context", "8k"],
    ),
    "--threads": (
        [
            "set the number of threads",
            "use fewer threads",
            "limit the CPU cores",
            "choose how many threads run",
            "tell a node how many threads to use",
        ],
        "`--threads N` sets the number of worker threads. The tokens do not change with it.",
        ["--threads", "threads"],
    ),
    "--isa": (
        [
            "choose the instruction set",
            "turn off AVX-512",
            "force AVX2",
            "force the scalar code",
            "pick the instruction set",
        ],
        "`--isa NAME` chooses the instruction set: scalar, avx2 or avx512. The tokens do not change with it.",
        ["--isa", "scalar, avx2 or avx512"],
    ),
    "--parallel": (
        [
            "serve more requests at once",
            "set how many requests run together",
            "change the number of places",
            "limit parallel requests",
            "run several requests together",
        ],
        "`--parallel N` sets how many requests run at once. The default is 8 places.",
        ["--parallel", "8"],
    ),
    "--chunk": (
        [
            "set the prefill chunk",
            "change the chunk size",
            "set how many prompt tokens are read at once",
            "choose the size of a prefill chunk",
        ],
        "`--chunk N` sets how many tokens of a prompt are computed in one prefill step. Each expert is read once per chunk.",
        ["--chunk", "prefill"],
    ),
    "--slots": (
        [
            "set the number of expert slots",
            "keep more experts in memory",
            "set the size of the expert cache",
            "cache more experts",
        ],
        "`--slots N` sets how many experts are kept in memory. Two slots are the fewest with which a node runs.",
        ["--slots", "two slots"],
    ),
    "--name": (
        [
            "rename the model in the API",
            "give the model another name",
            "set the model's name",
            "change the name the API shows",
        ],
        "`--name NAME` sets the model's name in the API. Without it, it is the folder's name.",
        ["--name", "folder's name"],
    ),
    "--template": (
        ["choose the chat template", "force a chat template", "use another chat template", "pick the template"],
        "`--template NAME` chooses a chat template: v3, v3-0324, r1-first, r1, r1-0528, v31 or v32.",
        ["--template", "v31"],
    ),
    "--temp": (
        [
            "set the temperature",
            "make answers less random",
            "change the temperature",
            "get the same answer each time",
            "make the replies more random",
        ],
        "`--temp T` sets the temperature of sampling. With 0 the most likely token is always taken.",
        ["--temp", "temperature"],
    ),
    "--top-p": (
        ["set top-p", "cut off unlikely tokens", "use nucleus sampling", "limit sampling to likely tokens"],
        "`--top-p P` keeps the most likely tokens whose probabilities add up to P.",
        ["--top-p", "most likely tokens"],
    ),
    "--seed": (
        ["set the seed", "repeat an answer exactly", "get a reproducible answer", "make sampling repeatable"],
        "`--seed N` sets the seed of sampling. The same prompt, seed and model give the same tokens.",
        ["--seed", "same tokens"],
    ),
    "--json": (
        ["get a report as JSON", "read reports in a script", "get machine-readable output", "have JSON output"],
        "`--json` prints a report as JSON. Every report takes it.",
        ["--json", "report"],
    ),
    "--bits": (
        [
            "choose 4 or 8 bits for a store",
            "set the bits of a packed store",
            "pack with 4 bits",
            "choose how many bits a packed store uses",
        ],
        "`--bits 8|4` of `penstock pack` chooses FP8, which is the same bytes, or 4 bits.",
        ["--bits", "4 bits"],
    ),
    "--decode": (
        ["turn ids back into text", "decode token ids", "detokenize on the command line", "get text from token ids"],
        "`--decode` makes `penstock tokenize` turn token ids back into text.",
        ["--decode", "back into text"],
    ),
    "--logits": (
        ["save the logits", "write logits to a file", "get raw logits", "keep the logits in a file"],
        "`--logits FILE` of `penstock score` writes the raw logits. The file appears whole or not at all.",
        ["--logits", "raw logits"],
    ),
    "--routes": (
        [
            "save the chosen experts",
            "see which experts were chosen",
            "write the routes to a file",
            "record which experts were used",
        ],
        "`--routes FILE` of `penstock score` writes which experts were chosen for each token.",
        ["--routes", "experts were chosen"],
    ),
}
OPTION_ASKED = wordings(
    """[What|Which thing] [does|would] [{o}|`{o}`|the option {o}|the {o} flag|the switch {o}] [do|change|set|mean][?| exactly?]
    [What|When|Why] [is|do I need|would I need|should I use|would anyone set] [{o}|`{o}`|the option {o}|the {o} flag|the switch {o}][?| for?]
    [Explain|Describe|Tell me about|I do not understand|Help me with|How do I use|I have a question about] [{o}|`{o}`|the option {o}|the {o} flag|the switch {o}][.|?|]
    [Somebody|My colleague|A script|The manual] [uses|sets|gives|mentions] {o}[. What does it do?|. Why?|. What is that?]
    What does {o} do?
    What does the option {o} do?
    What does the {o} option mean?
    What is {o}?
    What is {o} for?
    What does `{o}` mean?
    Explain {o}.
    Explain the option {o}.
    What is the option {o} good for?
    How do I use {o}?
    When do I need {o}?
    Tell me about {o}.
    What happens if I set {o}?
    Describe the {o} option.
    {o}
    {o}?
    ~ What is the meaning of {o}?
    ~ What is the purpose of the option {o}?
    ~ Can you explain {o} to me?
    ~ What does Penstock do with {o}?"""
)
OPTION_GOAL_ASKED = wordings(
    """[How|In what way|By which option|With what] [do I|can I|could I|would one|does one|should I|may I] {g}[?| in Penstock?| here?]
    [I want|I need|I would like|I'd like|I am trying|We have] to {g}[.|. How?|. Which option?|. Which flag?]
    [What|Which] [option|flag|switch|parameter|setting] [do I need|do I use|do I set|is there|lets me|helps me] [to |]{g}?
    [Show|Tell|Teach] me how [to|I can|one can] {g}[.|, please.]
    [Is there|Does Penstock offer] [an option|a flag|a switch|a setting] to {g}?
    How do I {g}?
    How can I {g}?
    How can I {g} in Penstock?
    Which option do I use to {g}?
    Which option lets me {g}?
    What option is there to {g}?
    Is there an option to {g}?
    I want to {g}.
    I would like to {g}.
    What is the option to {g}?
    Which flag do I need to {g}?
    Which switch is there to {g}?
    Can I {g}?
    Tell me how to {g}.
    Is it possible to {g}?
    ~ What flag must I give to {g}?
    ~ Which setting of Penstock do I need to {g}?
    ~ Show me the option with which I can {g}."""
)

EXIT_CODES = {
    "0": (
        ["success", "that all went well"],
        "Exit code 0 means success, and only success.",
        ["exit code 0", "success"],
    ),
    "1": (
        ["a failure while running", "that something failed while running"],
        "Exit code 1 means that it failed while running.",
        ["exit code 1", "failed while running"],
    ),
    "2": (
        ["wrong usage", "a mistake on the command line", "a bad option"],
        "Exit code 2 means wrong usage: check the command line.",
        ["exit code 2", "usage"],
    ),
    "3": (
        ["a missing model", "a damaged model", "a model that is missing or damaged", "a broken checkpoint"],
        "Exit code 3 means that the model is missing, damaged or unsupported. The message names file and tensor.",
        ["exit code 3", "missing, damaged"],
    ),
    "4": (
        ["too little memory", "not enough memory", "a missing device", "a lack of memory"],
        "Exit code 4 means that there is not enough memory, or no suitable device.",
        ["exit code 4", "not enough memory"],
    ),
    "5": (
        ["a failed verification", "that verify found damage", "that a check of the bytes failed"],
        "Exit code 5 means that a verification failed.",
        ["exit code 5", "verification failed"],
    ),
    "130": (
        ["Ctrl-C", "an interrupt", "being stopped with Ctrl-C"],
        "Exit code 130 means that it was stopped with Ctrl-C.",
        ["exit code 130", "ctrl-c"],
    ),
}
EXIT_ASKED = wordings(
    """[What|Why] [does|is] [exit code|exit status|return code|the exit code|code] {n}[?| mean?]
    [penstock|The program|It|Penstock|The command|My node|run|verify] [exits|exited|ended|ends|stops|stopped|quits|finished|returned] with [{n}|code {n}|exit code {n}|status {n}|the number {n}][.|. Why?|. What is wrong?|. What does it mean?]
    [I get|I got|I see|We see|My shell shows|echo $? says] [exit code {n}|{n} as the exit code|the exit status {n}|return code {n}][.|. Why?|. What now?|. What does that mean?]
    [The|An] [exit code|exit status|return code] [of|is] {n}[: what happened?|. Why?|. What does it say?]
    What does exit code {n} mean?
    What does exit status {n} mean?
    What is exit code {n}?
    penstock exits with {n}. What does that mean?
    penstock ended with exit code {n}.
    penstock returned {n}. Why?
    The exit code is {n}. What happened?
    Explain exit code {n}.
    Why does penstock exit with code {n}?
    I get exit code {n}.
    I got exit code {n}, what is wrong?
    What does it mean when penstock exits {n}?
    Exit code {n}?
    The program stopped with code {n}.
    My script says that penstock returned {n}.
    ~ What is meant by exit code {n}?
    ~ penstock quit with status {n}, what is that?
    ~ My script got {n} from penstock. What is the reason?"""
)
EXIT_GOAL_ASKED = wordings(
    """[What|Which] [exit code|exit status|return code|code|number] [means|stands for|do I get for|is used for|signals|tells of] {g}?
    [How|With which code] does [penstock|it|a node] [exit|end] [for|on|after] {g}?
    [The|Which] exit code for {g}[?|, please.]
    Which exit code means {g}?
    Which exit code stands for {g}?
    What is the exit code for {g}?
    What exit code do I get for {g}?
    With which code does penstock exit for {g}?
    Which code is returned for {g}?
    What does penstock return for {g}?
    ~ Which number does penstock exit with to say {g}?
    ~ How does the exit code show {g}?"""
)

SERVERS = {
    "init": (
        [
            "starts the other servers",
            "notices the death of a server",
            "holds the client connections",
            "restarts a dead server",
            "is PID 1 on a node",
        ],
        "init owns every object, ring and connection. It starts the servers, moves clients' bytes unread, notices a death and starts a successor.",
        ["init", "starts the servers"],
    ),
    "gateway": (
        [
            "speaks HTTP",
            "does the tokenizing",
            "applies chat templates",
            "turns text into tokens",
            "handles HTTP requests",
        ],
        "gateway speaks HTTP and turns text into tokens and back, with tokenizer and chat templates. It knows nothing of tensors.",
        ["gateway", "http"],
    ),
    "router": (
        [
            "schedules the rows",
            "runs the gate",
            "samples the next token",
            "picks the experts",
            "owns the schedule",
            "decides which token comes out",
        ],
        "router owns the sequences and the schedule. It runs the gates that pick experts, the final norm and head, and samples the next token.",
        ["router", "schedule"],
    ),
    "mla": (
        [
            "computes attention",
            "owns the KV cache",
            "does the attention",
            "holds the latent KV pages",
            "keeps the KV pages",
        ],
        "mla owns the latent KV pages and computes one attention block for a batch of rows.",
        ["mla", "attention"],
    ),
    "experts": (
        [
            "reads the experts from the drive",
            "computes the experts",
            "applies the FFN",
            "owns the expert slots",
            "fetches experts from the drive",
        ],
        "experts brings the picked experts in from the drive and applies the feed-forward network.",
        ["experts", "from the drive"],
    ),
    "loader": (
        [
            "parses the checkpoint",
            "loads the weights at the start",
            "fills the resident weights",
            "reads the checkpoint once",
        ],
        "loader parses a checkpoint once, fills the index and the resident weights, and is gone.",
        ["loader", "parses a checkpoint"],
    ),
    "scribe": (
        ["writes the logs", "writes log files", "turns log records into text", "writes traces and recordings"],
        "scribe turns the servers' log records, traces and recorder into text and files.",
        ["scribe", "log records"],
    ),
    "cuda": (
        ["owns the GPU", "makes the GPU launches", "runs work on the GPU", "uses the graphics card"],
        "cuda owns the GPU and executes the command lists of the other servers. It is the one process that is not static.",
        ["cuda", "gpu"],
    ),
}
SERVER_ASKED = wordings(
    """[What|Which work] [does|is done by] [{s}|the {s} server|the {s} process|the process {s}][?| do?| do in a node?]
    [What|Why|When] [is|do we need|is there|does a node need] [{s}|the {s} server|the {s} process|a process {s}][?| for?]
    [Explain|Describe|Tell me about|I do not understand|Help me with|I have a question about|How about|What about] [{s}|the {s} server|the {s} process|the process {s}][.|?|]
    [ps|top|The log|The process list] shows [{s}|a process {s}][. What is it?|. What does it do?|. Why?]
    What [work|task|duty|job] [has|does] {s}[?| have?| do?]
    What does the server {s} do?
    What does {s} do in Penstock?
    What does {s} do?
    What is {s}?
    What is {s} in Penstock?
    What is the {s} process for?
    What is the {s} server?
    Explain the {s} process.
    Explain {s}.
    What is the job of {s}?
    What does the {s} process own?
    Tell me about the {s} server.
    Which task has {s}?
    Why is there a process called {s}?
    I see a process named {s}. What is it?
    Describe the server {s}.
    ~ What is the role of {s}?
    ~ What is the {s} server responsible for?
    ~ What is {s} good for in a node?"""
)
SERVER_GOAL_ASKED = wordings(
    """[Which|What] [server|process|part|program|component] [of Penstock |of a node |here |]{g}?
    [Who|What] {g}[?| in a node?| here?]
    [Name|Tell me|Say] the [process|part|program|component] [that|which] {g}.
    [It is|There must be] [a server|a process] that {g}. Which[?| one?]
    Which server {g}?
    Which process {g}?
    Which part of Penstock {g}?
    Who {g} in Penstock?
    What {g}?
    Which of the servers {g}?
    In Penstock, which process {g}?
    Name the server that {g}.
    Which program {g}?
    ~ What is the name of the process that {g}?
    ~ Tell me which server {g}."""
)

FOLDERS = {
    "boot": (
        ["init", "the supervision", "the sandbox"],
        "boot/ holds init: supervision, the byte pump, PID 1 duties, and the sandbox of each server.",
        ["boot", "init"],
    ),
    "ipc": (
        ["the protocol", "the rings", "the messages"],
        "ipc/ holds the protocol: messages, objects, rings, waiting, and its SPIN models.",
        ["ipc", "protocol"],
    ),
    "drivers": (
        ["the CPU kernels", "the io_uring code", "the hardware code"],
        "drivers/ holds the hardware: nvme, cpu, cuda, virtio-serial, vsock and console.",
        ["drivers", "hardware"],
    ),
    "model": (
        ["the tokenizer", "the gate", "the attention code", "the DeepSeek code"],
        "model/ holds DeepSeek-V3 itself: config, checkpoint, store, tokenizer, gate, attention, experts, MTP, YaRN, sampler and templates.",
        ["model/", "deepseek-v3"],
    ),
    "runtime": (
        ["the logs", "the worker teams", "the servers' mains"],
        "runtime/ holds what every server stands on: arenas, worker teams, logs, clock, errors, command line, and the servers' mains.",
        ["runtime", "every server"],
    ),
    "images": (
        ["the demo model", "the boot images", "the relay"],
        "images/ holds what boots: initramfs, UEFI image, the relay, the demo model and its recipe.",
        ["images", "demo model"],
    ),
    "tests": (
        ["the tests", "the fuzz targets", "the benchmarks"],
        "tests/ holds everything that holds the promises: unit, golden, end to end, fault, fuzz and bench.",
        ["tests", "promises"],
    ),
}
FOLDER_ASKED = wordings(
    """[What|Which code] [is|lies|do I find|can I find|belongs] in [{f}/|the folder {f}|the directory {f}|the {f} folder]?
    [Explain|Describe|Tell me about|What about] [{f}/|the folder {f}|the directory {f}|the {f} directory][.|?|]
    [What|Why] is [{f}/|the folder {f}|the directory {f}] [for|there]?
    What is in the folder {f}?
    What is in {f}/?
    What does the folder {f} hold?
    What does the directory {f} contain?
    What do I find in {f}/?
    Explain the folder {f}.
    What is the {f} folder for?
    What is the directory {f} for?
    Which code is in {f}/?
    ~ What lives in {f}/?
    ~ What would I look for in the folder {f}?"""
)
FOLDER_GOAL_ASKED = wordings(
    """[Where|In which folder|In which directory|In what part of the source] [is|are|lies|do I find|can I find] {g}?
    [I look for|I search for|Show me|Where is the code of|Which folder is for] {g}[.|?| in the source.]
    [Which|What] [folder|directory] [has|holds|contains|keeps] {g}?
    Where in the source is {g}?
    Which folder holds {g}?
    Which folder has {g}?
    In which folder do I find {g}?
    Where do I find {g} in the source?
    Where is {g} in the tree?
    Which directory contains {g}?
    ~ Where does the source keep {g}?
    ~ In which directory should I look for {g}?"""
)

ENDPOINTS = {
    "/v1/chat/completions": (
        ["chat over HTTP", "send chat messages", "get a chat completion", "send a conversation over the API"],
        "POST /v1/chat/completions takes messages and answers as OpenAI's API does, also as a stream.",
        ["/v1/chat/completions", "messages"],
    ),
    "/v1/completions": (
        [
            "complete a plain prompt",
            "continue a text over HTTP",
            "send a raw prompt",
            "get a completion without a template",
        ],
        "POST /v1/completions continues a plain prompt, a string or token ids.",
        ["/v1/completions", "prompt"],
    ),
    "/v1/models": (
        ["list the models", "see the model's name over HTTP", "ask the API for its models"],
        "GET /v1/models lists the model, with its largest context as max_model_len.",
        ["/v1/models", "max_model_len"],
    ),
    "/health": (
        [
            "check whether a node is healthy",
            "probe a node",
            "see whether a node works",
            "let a load balancer check a node",
        ],
        "GET /health is green if a token passed through every server within the last 30 seconds; if not, asking starts one.",
        ["/health", "30 seconds"],
    ),
    "/metrics": (
        ["get metrics", "feed Prometheus", "read the counters over HTTP", "scrape a node"],
        "GET /metrics serves the counters as Prometheus text.",
        ["/metrics", "prometheus"],
    ),
    "/tokenize": (
        ["tokenize over HTTP", "get token ids from the API", "count tokens over HTTP"],
        "POST /tokenize turns content into tokens. It adds no BOS.",
        ["/tokenize", "tokens"],
    ),
    "/detokenize": (
        ["turn tokens into text over HTTP", "detokenize with the API", "decode ids with the API"],
        "POST /detokenize turns tokens into content.",
        ["/detokenize", "content"],
    ),
    "/apply-template": (
        [
            "see a rendered prompt over HTTP",
            "apply the chat template with the API",
            "get the prompt of some messages from the API",
        ],
        "POST /apply-template turns messages into the prompt.",
        ["/apply-template", "prompt"],
    ),
}
ENDPOINT_ASKED = wordings(
    """[What|Which thing] [does|is|do I get from|comes from] [{e}|the endpoint {e}|the path {e}|the URL {e}][?| do?| for?]
    [Explain|Describe|Tell me about|I do not understand|How do I use|When do I use|What about] [{e}|the endpoint {e}|the path {e}|`{e}`][.|?|]
    [A request to|A call of|curl with] {e}[: what does it do?|, what is that?|?]
    What does {e} do?
    What is {e}?
    What is {e} for?
    What does the endpoint {e} do?
    What is the endpoint {e} for?
    Explain {e}.
    What do I get from {e}?
    Tell me about the endpoint {e}.
    How do I use {e}?
    When do I call {e}?
    ~ What is the purpose of {e}?
    ~ What happens when I call {e}?"""
)
ENDPOINT_GOAL_ASKED = wordings(
    """[What|Which] [endpoint|URL|path|address|route] [do I need|do I use|do I call|is there|lets me|is used] [to |]{g}?
    [How|With which request|By which endpoint] [do I|can I|could I|does one|would a client] {g}[?| over HTTP?]
    [I want|I need|I would like|My program has|My script wants] to {g}[.|. How?|. Which endpoint?]
    Which endpoint do I call to {g}?
    Which endpoint is there to {g}?
    Which URL do I use to {g}?
    Is there an endpoint to {g}?
    How do I {g}?
    How can I {g}?
    What is the endpoint to {g}?
    Which path of the API lets me {g}?
    ~ What must I request to {g}?
    ~ Which part of the API is meant to {g}?"""
)

STATUSES = {
    "400": (
        ["a wrong request", "an unknown field", "a context that is too long"],
        "HTTP 400 means a wrong request: an unknown field, a wrong type, or a prompt that exceeds the context. `param` names the field.",
        ["400", "wrong request"],
    ),
    "404": (["an unknown model", "an unknown path"], "HTTP 404 means an unknown path or model.", ["404", "unknown"]),
    "405": (
        ["a wrong method"],
        "HTTP 405 means a wrong method; the header Allow names the right ones.",
        ["405", "method"],
    ),
    "408": (
        ["a request that is too slow"],
        "HTTP 408 means that the request came too slowly: a header within 10 s, a body that stalls for 30 s.",
        ["408", "too slowly"],
    ),
    "413": (["a body that is too large"], "HTTP 413 means that the body is over 16 MiB.", ["413", "16 mib"]),
    "415": (["a wrong content type"], "HTTP 415 means that the Content-Type is not JSON.", ["415", "json"]),
    "429": (
        ["a full queue", "too many requests"],
        "HTTP 429 means that the queue is full. Try again after the seconds of Retry-After.",
        ["429", "queue is full"],
    ),
    "431": (
        ["headers that are too large"],
        "HTTP 431 means that the headers are over 64 KiB or 100 lines.",
        ["431", "64 kib"],
    ),
    "500": (["a bug of Penstock itself"], "HTTP 500 means a bug of Penstock itself, and nothing else.", ["500", "bug"]),
    "503": (
        ["a node that is not ready", "a node that still starts"],
        "HTTP 503 means that the node is not ready yet or out of memory for bodies. Try again after Retry-After.",
        ["503", "not ready"],
    ),
}
STATUS_ASKED = wordings(
    """[What|Why] [does|is] [HTTP|status|error|the HTTP status|code|response] {n}[?| mean?]
    [I get|I got|My client gets|curl shows|The API sends|The node answers|We see|The reply was] [{n}|a {n}|status {n}|error {n}|HTTP {n}][.|. Why?|. What now?|. What does that mean?|. What is wrong?]
    [Explain|Describe] [HTTP {n}|status {n}|error {n}|a {n}].
    [What|What shall I do] [about|with|after|causes] [HTTP {n}|status {n}|error {n}|a {n}]?
    [HTTP {n}|Error {n}|Status {n}][?|: why?|, what is it?]
    What does HTTP {n} mean?
    What does status {n} mean?
    I get a {n} from the API.
    The API answers {n}. What does that mean?
    Why do I get {n}?
    Why does the server answer {n}?
    What does error {n} mean?
    What is error {n}?
    The request fails with {n}.
    curl says {n}.
    Explain HTTP status {n}.
    ~ What is the meaning of a {n} answer?
    ~ My request came back with {n}, why?
    ~ What does it mean when Penstock replies {n}?"""
)
STATUS_GOAL_ASKED = wordings(
    """[What|Which] [HTTP status|status|status code|error|code|answer] [means|stands for|do I get for|is used for|comes for|is sent for] {g}?
    [How|With what] does [the API|a node|Penstock] [answer|react to|reject] {g}?
    Which HTTP status means {g}?
    Which status do I get for {g}?
    What does the API answer for {g}?
    What is the status code for {g}?
    Which error is sent for {g}?
    How does the API report {g}?
    ~ What will the API say about {g}?
    ~ With which status does Penstock answer {g}?"""
)

TABLES = (
    (COMMANDS, "c", COMMAND_ASKED, GOAL_ASKED),
    (OPTIONS, "o", OPTION_ASKED, OPTION_GOAL_ASKED),
    (EXIT_CODES, "n", EXIT_ASKED, EXIT_GOAL_ASKED),
    (SERVERS, "s", SERVER_ASKED, SERVER_GOAL_ASKED),
    (FOLDERS, "f", FOLDER_ASKED, FOLDER_GOAL_ASKED),
    (ENDPOINTS, "e", ENDPOINT_ASKED, ENDPOINT_GOAL_ASKED),
    (STATUSES, "n", STATUS_ASKED, STATUS_GOAL_ASKED),
)
