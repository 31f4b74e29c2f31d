--
-- PostgreSQL database dump
--

\restrict aqCdBDIDoZgahWlAOMI4I05t9pW84sbkHa51tHXmk8HOPq7J1YWgo0s7Yf46aWY

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: artifacts; Type: TABLE; Schema: public; Owner: nobody
--

CREATE TABLE public.artifacts (
    id text NOT NULL,
    repo_id text,
    file_key text
);


ALTER TABLE public.artifacts OWNER TO nobody;

--
-- Name: repositories; Type: TABLE; Schema: public; Owner: nobody
--

CREATE TABLE public.repositories (
    id text NOT NULL,
    auth_credentials text,
    vcs_type text
);


ALTER TABLE public.repositories OWNER TO nobody;

--
-- Data for Name: artifacts; Type: TABLE DATA; Schema: public; Owner: nobody
--

COPY public.artifacts (id, repo_id, file_key) FROM stdin;
a	repo-1	x/y.zip
\.


--
-- Data for Name: repositories; Type: TABLE DATA; Schema: public; Owner: nobody
--

COPY public.repositories (id, auth_credentials, vcs_type) FROM stdin;
repo-1	rN4HrWidsi0sCCjxsvHysi0UdyWbR4YmuUQVOMH05fbSoEs8tsVCI57hNeSmY/b04u12UiQU8WEPwv8ugjXNnOtZM9Ap2NGNhB4yK3Ab8s2M/AygaCNJ	git
repo-2	rN4HrWidsi0sCCjxsvHysi0UdyWbR4YmuUQVOMH05fbSoEs8tsVCI57hNeSmY/b04u12UiQU8WEPwv8ugjXNnOtZM9Ap2NGNhB4yK3Ab8s2M/AygaCNJ	git
manual	{}	manual
\.


--
-- Name: artifacts artifacts_pkey; Type: CONSTRAINT; Schema: public; Owner: nobody
--

ALTER TABLE ONLY public.artifacts
    ADD CONSTRAINT artifacts_pkey PRIMARY KEY (id);


--
-- Name: repositories repositories_pkey; Type: CONSTRAINT; Schema: public; Owner: nobody
--

ALTER TABLE ONLY public.repositories
    ADD CONSTRAINT repositories_pkey PRIMARY KEY (id);


--
-- PostgreSQL database dump complete
--

\unrestrict aqCdBDIDoZgahWlAOMI4I05t9pW84sbkHa51tHXmk8HOPq7J1YWgo0s7Yf46aWY

